"""The bundled model with one thing changed, and all checks of a folder in the order of the report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.evaluate import BUNDLED
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.config.kv_format import KVFormat
from zaya_core.load import load_model
from zaya_core.measure.checkup.agreement import compare_with_reference, compare_with_steps
from zaya_core.measure.checkup.distributions import compare_logits
from zaya_core.measure.checkup.finding import Finding
from zaya_core.measure.checkup.golden import known
from zaya_core.measure.checkup.likeliest import compare_likeliest
from zaya_core.measure.checkup.perplexity import judge_routers, judge_text, read_text
from zaya_core.measure.checkup.tensors import check_tensors
from zaya_core.measure.checkup.text import readings
from zaya_core.measure.checkup.tokens import check_tokens
from zaya_core.text.tokenizer import load_tokenizer

LAYER = "model.layers.2."
Change = Callable[[dict[str, Tensor]], object]


def _swap_experts(tensors: dict[str, Tensor]) -> None:
    for name in ("gate_up_proj", "down_proj"):
        stack = tensors[f"{LAYER}mlp.experts.{name}"]
        stack[[3, 7]] = stack[[7, 3]].clone()


def _add_noise(tensors: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    for name in ("q_proj", "k_proj"):
        weight = tensors[f"{LAYER}self_attn.qkv_proj.{name}.weight"]
        weight += 0.5 * weight.float().std() * torch.randn(weight.shape, generator=generator).to(weight.dtype)


def _reverse_taps(tensors: dict[str, Tensor]) -> None:
    name = f"{LAYER}self_attn.qkv_proj.conv_qk_grouped.weight"
    tensors[name] = tensors[name].flip(-1).contiguous()


def _shift_rows(tensors: dict[str, Tensor]) -> None:
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].roll(1, 0)


DAMAGES: dict[str, Change] = {
    "o_proj negated": lambda tensors: tensors[f"{LAYER}self_attn.o_proj.weight"].neg_(),
    "o_proj zeroed": lambda tensors: tensors[f"{LAYER}self_attn.o_proj.weight"].zero_(),
    "two experts swapped": _swap_experts,
    "temperature doubled": lambda tensors: tensors[f"{LAYER}self_attn.qk_norm.temp"].mul_(2),
    "noise on queries and keys": _add_noise,
    "residual halved": lambda tensors: tensors[f"{LAYER}post_mlp_residual_scale.residual_scale"].mul_(0.5),
    "last norm tripled": lambda tensors: tensors["model.norm.weight"].mul_(3),
    "taps reversed": _reverse_taps,
    "rows of the embedding shifted": _shift_rows,
    "one expert takes all": lambda tensors: tensors[f"{LAYER}mlp.gate.balancing_biases"][3:4].fill_(2.0),
    "skip wins": lambda tensors: tensors[f"{LAYER}mlp.gate.balancing_biases"][-1:].fill_(2.0),
    "a NaN in an expert": lambda tensors: tensors[f"{LAYER}mlp.experts.down_proj"][5, 1].fill_(float("nan")),
}


def damaged(out: Path, change: Change, source: Path = BUNDLED) -> Path:
    """A copy of a model with the change."""
    shutil.copytree(source, out)
    files = {file: load_file(file) for file in out.glob("*.safetensors")}
    tensors = {name: tensor for one in files.values() for name, tensor in one.items()}
    change(tensors)
    for file, names in files.items():
        save_file({name: tensors[name] for name in names}, file, metadata={"format": "pt"})
    return out


def findings(path: Path, kv: KVFormat = "auto", names: tuple[str, ...] = ()) -> list[Finding]:
    """All but speed and memory."""
    folder, tokenizer = ModelFolder(path), load_tokenizer(path)
    checkpoint, model = open_checkpoint(folder), load_model(folder, "cpu", kv=kv)
    what = known(folder.config, names)
    kind, texts = readings(tokenizer, what.golden)
    read = read_text(model, texts)
    whole, steps = compare_with_steps(model, texts[0].ids[:6])
    return [
        *check_tensors(checkpoint, what),
        *check_tokens(tokenizer, folder.config, what),
        *compare_likeliest(model, what),
        *compare_logits(model, what),
        *judge_text(read, kind, folder.config.vocab_size, what),
        judge_routers(read, what),
        steps,
        compare_with_reference(folder.config, checkpoint, texts[0].ids[:6], whole),
    ]


def problems(found: list[Finding]) -> set[str]:
    """Topics of what is marked X."""
    return {one.topic for one in found if one.state == "problem"}
