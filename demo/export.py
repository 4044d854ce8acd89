"""Write a checkpoint as a model folder like the real one: bf16 weights, config, tokenizer, template, generation config.

python -m demo.export --checkpoint build/demo/last.pt --output zaya_core/bundled/demo
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import ZayaForCausalLM

from demo.examples import TEMPLATE
from demo.model import build_model
from demo.tokenizer import BOS, IM_END, PAD, write_tokenizer

GENERATION = {"temperature": 1.0, "top_p": 0.95, "do_sample": True, "aggregation_prompt": "attempts"}
SKIP_BIAS = -1.0


def check_skip_class(model: ZayaForCausalLM) -> None:
    """Refuse weights with which the skip class could win: its bias must stay at -1 and some expert's at or above 0."""
    for number, layer in enumerate(model.model.layers):
        biases = layer.mlp.gate.balancing_biases
        if biases[-1] != SKIP_BIAS or biases[:-1].max() < 0:
            raise ValueError(f"layer {number}: the skip class could win with the balancing biases {biases.tolist()}")


def write_weights(model: ZayaForCausalLM, folder: Path) -> None:
    """Everything in bf16 but the balancing biases, which are float32 in the real checkpoints too."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":  # tied to the embedding
            continue
        is_bias = name.endswith("balancing_biases")
        tensors[name] = tensor.to(torch.float32 if is_bias else torch.bfloat16).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_configs(model: ZayaForCausalLM, folder: Path) -> None:
    config = json.loads(model.config.to_json_string(use_diff=False))
    config |= {"architectures": ["ZayaForCausalLM"], "dtype": "bfloat16"}
    kept = {key: value for key, value in config.items() if not key.startswith("_")}
    ids = {"bos_token_id": BOS, "eos_token_id": IM_END, "pad_token_id": PAD}
    for name, content in (("config.json", kept), ("generation_config.json", GENERATION | ids)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def export(checkpoint: Path, folder: Path) -> None:
    model = build_model(0)
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["averaged"])
    check_skip_class(model)
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(model, folder)
    write_configs(model, folder)
    write_tokenizer(Tokenizer.from_file(str(checkpoint.with_name("tokenizer.json"))), folder)
    shutil.copyfile(TEMPLATE, folder / "chat_template.jinja")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a checkpoint as a model folder.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.output)


if __name__ == "__main__":
    main()
