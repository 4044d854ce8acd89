"""Tiny models whose matrices can be packed, their quantized folders, and the float models that those stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tests.core.tiny_models import reference_model, save_native, save_original
from tests.core.tokenizers_made_here import gemma_text, write_folder
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.checkpoint.names import parameters
from zaya_core.config.parse import read_config
from zaya_core.load import ModelParts
from zaya_core.quantize.job import QuantizationJob, QuantizeSettings
from zaya_core.quantize.run import quantize

SIZES = {"vocab_size": 704, "hidden_size": 64, "head_dim": 16, "moe_intermediate_size": 64, "router_hidden_size": 16}


def source_folder(folder: Path, layout: str = "native", variant: str = "base", seed: int = 0, **sizes: Any) -> Path:
    """A whole model folder with float32 weights: K a multiple of 64 everywhere, rows no multiple of 16."""
    model = reference_model(variant, seed=seed, **{**SIZES, **sizes})
    saved = save_native(model, folder) if layout == "native" else save_original(model, folder, shards=3)
    return write_folder(saved, gemma_text())


def quantized_folder(source: Path, out: Path, settings: QuantizeSettings) -> Path:
    quantize(QuantizationJob(source, out, settings), lambda progress: None)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def dequantized_folder(quantized: Path, out: Path) -> Path:
    """The same model as floats, in the native layout or, as its config says, in the original one."""
    config = read_config(quantized)
    checkpoint = open_checkpoint(quantized)
    from zaya_core.machine.device import choose_placement

    parts = ModelParts(config, checkpoint, choose_placement("cpu", "float32", checkpoint.dtype))
    raw = json.loads((quantized / "config.json").read_text())
    for block in ("quantization", "quantization_config"):
        raw.pop(block, None)
    out.mkdir()
    (out / "config.json").write_text(json.dumps(raw))
    tensors = {}
    for parameter in parameters(read_config(out)):
        name = parameter.name
        if name not in checkpoint.packed:
            whole = checkpoint.tensor(name)
        elif len(parameter.shape) == 3:
            whole = parts.stack(name).dequantize()
        else:
            whole = parts.matrix(name.removesuffix(".weight")).dequantize()
        pieces = [whole] if len(parameter.sources) == 1 else whole.unbind(0)
        tensors.update({source: one.clone() for source, one in zip(parameter.sources, pieces, strict=True)})
    save_file(tensors, out / "model.safetensors")
    return out
