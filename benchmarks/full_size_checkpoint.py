"""Write a folder with the sizes of ZAYA1-8B and random weights, for speed and memory.

    python -m benchmarks.full_size_checkpoint --out zaya-random [--layout original] [--layers 40]

8.84 B parameters in bf16 (17.7 GB) in shards of about 2 GB, a tokenizer with 262,272 entries and a chat template. The
answers are noise; tokens spread over the experts as in a trained model. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from zaya_core.checkpoint.names import parameters
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.parse import parse_config
from zaya_core.measure.dummy import VOCABULARY, full_size_config
from zaya_core.measure.random_tensors import RandomTensors
from zaya_core.text.template.built_in import BUILT_IN_TEMPLATE

_SHARD_BYTES = 2_000_000_000


def original_config(layers: int) -> dict[str, Any]:
    """`config.json` of the original layout, 2 half layers for each layer."""
    return {
        "model_type": "zaya",
        "vocab_size": VOCABULARY,
        "hidden_size": 2048,
        "num_hidden_layers": 2 * layers,
        "num_attention_heads": 16,
        "cca_num_q_heads": 8,
        "num_query_groups": 2,
        "kv_channels": 128,
        "ffn_hidden_size": 4096,
        "num_experts": 16,
        "zaya_mlp_expansion": 256,
        "moe_router_topk": 1,
        "norm_epsilon": 1e-5,
        "max_position_embeddings": 131_072,
        "rope_theta": 5_000_000,
        "partial_rotary_factor": 0.5,
        "rope_scaling": False,
        "bos_token_id": 2,
        "eos_token_id": 106,
    }


def random_tensors(config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the checkpoint, in bf16."""
    random = RandomTensors()
    for parameter in parameters(config):
        for source in parameter.sources:
            yield source, random.draw(parameter.name, parameter.source_shape)


def write_weights(folder: Path, config: ModelConfig) -> int:
    """Write the shards and their index; returns the bytes of all tensors."""
    shard: dict[str, Tensor] = {}
    weight_map: dict[str, str] = {}
    total = size = number = 0
    for name, tensor in random_tensors(config):
        shard[name] = tensor.contiguous()
        weight_map[name] = f"model-{number:05d}.safetensors"
        size += tensor.nbytes
        total += tensor.nbytes
        if size > _SHARD_BYTES:
            save_file(shard, folder / weight_map[name])
            shard, size, number = {}, 0, number + 1
    if shard:
        save_file(shard, folder / f"model-{number:05d}.safetensors")
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def write_tokenizer(folder: Path) -> None:
    """A byte-fallback BPE of Gemma's size: 262,272 ids, about half a million merges, ids 101 to 106 as in ZAYA."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    head = ["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<unused{i}>" for i in range(97)]
    head += ["<zyphra_tool_call>", "</zyphra_tool_call>", "<zyphra_tool_response>", "</zyphra_tool_response>"]
    head += ["<|im_start|>", "<|im_end|>", "\n"]
    letters = list("\u2581" + ascii_letters + digits + ".,:;!?'\"()[]{}+-*/=<>|_#%&@$^~`\\")
    pairs = ["".join(pair) for pair in product(letters, letters)]
    triples = ("".join(triple) for triple in product(letters, letters, letters))
    pieces = head + [f"<0x{byte:02X}>" for byte in range(256)] + letters + pairs
    pieces += [triple for triple, _ in zip(triples, range(VOCABULARY - 2 - len(pieces)), strict=False)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [(a, b) for a, b in product(letters, letters)]
    for piece in pieces[-(VOCABULARY - 2 - vocabulary[pairs[-1]] - 1) :]:
        merges += [(piece[:2], piece[2]), (piece[0], piece[1:])]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "\u2581")
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in head[:4] + head[101:107]])
    made.add_tokens([AddedToken(name, normalized=False) for name in ("<think>", "</think>")])
    made.save(str(folder / "tokenizer.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layout", choices=("native", "original"), default="native")
    parser.add_argument("--layers", type=int, default=40)
    arguments = parser.parse_args()
    started = time.perf_counter()
    arguments.out.mkdir(parents=True)
    raw = (full_size_config if arguments.layout == "native" else original_config)(arguments.layers)
    nbytes = write_weights(arguments.out, parse_config(raw))
    write_tokenizer(arguments.out)
    (arguments.out / "chat_template.jinja").write_text(BUILT_IN_TEMPLATE)
    (arguments.out / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<bos>", "eos_token": "<|im_end|>"}))
    (arguments.out / "generation_config.json").write_text(json.dumps({"bos_token_id": 2, "eos_token_id": 106}))
    (arguments.out / "config.json").write_text(json.dumps(raw, indent=1))
    seconds = time.perf_counter() - started
    print(f"{arguments.out}: {nbytes / 1e9:.2f} GB, {arguments.layout} layout, written in {seconds:.0f} s")
    print(json.dumps({"folder": str(arguments.out), "layout": arguments.layout, "bytes": nbytes, "seconds": seconds}))


if __name__ == "__main__":
    main()
