"""Model folders that are damaged, incomplete or hostile, as data: what is done to a good one, and what must be said.

Used in-process by `core/checkpoint/test_checkpoint.py` and through the command by `cli/test_hostile_folders.py`.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.core.tokenizers_made_here import gemma_text
from zaya_core.checkpoint.names import parameters
from zaya_core.config.parse import parse_config
from zaya_core.errors import CheckpointError, ConfigError, ModelNotFoundError, ZayaError

INDEX = "model.safetensors.index.json"
FIRST = "model-00001-of-00002.safetensors"
SECOND = "model-00002-of-00002.safetensors"
CONFIG: dict[str, Any] = {
    "model_type": "zaya",
    "vocab_size": 720,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "num_experts": 2,
    "moe_intermediate_size": 8,
    "router_hidden_size": 4,
    "max_position_embeddings": 256,
    "layer_types": ["hybrid", "hybrid"],
    "rope_parameters": {"hybrid": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    "bos_token_id": 2,
    "eos_token_id": 106,
}
TEMPLATE = "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def good_folder(folder: Path) -> Path:
    """A complete folder: two shards with an index, a tokenizer, a template. Random weights, the same every time."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    expected = parameters(parse_config(CONFIG))
    tensors = {one.name: torch.randn(one.shape, generator=generator).to(torch.bfloat16) for one in expected}
    weight_map = {name: FIRST if "layers.0." in name or "embed" in name else SECOND for name in sorted(tensors)}
    for shard in (FIRST, SECOND):
        save_file({name: tensors[name] for name in tensors if weight_map[name] == shard}, folder / shard)
    write_json(folder / INDEX, {"metadata": {}, "weight_map": weight_map})
    write_json(folder / "config.json", CONFIG)
    (folder / "tokenizer.json").write_text(gemma_text(), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"bos_token": "<bos>", "chat_template": TEMPLATE})
    return folder


@dataclass(frozen=True)
class Broken:
    """`damage` makes a good folder a bad one. `says`: a regular expression that the message must contain."""

    damage: Callable[[Path], object]
    error: type[ZayaError]
    says: str

    @property
    def exit_code(self) -> int:
        return 3 if issubclass(self.error, ModelNotFoundError) else 5


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def change_json(name: str, **changes: Any) -> Callable[[Path], None]:
    """Set keys of a JSON file of the folder; None removes one."""

    def damage(folder: Path) -> None:
        value = {**json.loads((folder / name).read_text()), **changes}
        write_json(folder / name, {key: entry for key, entry in value.items() if entry is not None})

    return damage


def replace_file(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def remove(*names: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def truncate(name: str, keep: Callable[[int], int]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: keep(len(content))])

    return damage


def change_header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Edit the first shard's header in place, data and all else as they are."""

    def damage(folder: Path) -> None:
        content = (folder / FIRST).read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        (folder / FIRST).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return damage


def change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Edit the first shard's tensors and write it anew, with an index that agrees."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / FIRST)
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        change(tensors)
        save_file(tensors, folder / FIRST)
        index = json.loads((folder / INDEX).read_text())
        weight_map = {name: shard for name, shard in index["weight_map"].items() if shard != FIRST}
        write_json(folder / INDEX, {"weight_map": {**weight_map, **dict.fromkeys(tensors, FIRST)}})

    return damage


def _a_name(header: dict[str, Any]) -> str:
    return next(name for name in header if name != "__metadata__")


def _shift(header: dict[str, Any], by: int) -> None:
    start, end = header[_a_name(header)]["data_offsets"]
    header[_a_name(header)]["data_offsets"] = [start + by, end + by]


def _last(header: dict[str, Any]) -> dict[str, Any]:
    entries = [entry for name, entry in header.items() if name != "__metadata__"]
    return max(entries, key=lambda entry: entry["data_offsets"][1])


def _grow_last(header: dict[str, Any]) -> None:
    _last(header)["data_offsets"][1] += 1 << 40


def _overlap(header: dict[str, Any]) -> None:
    entries = sorted((e for n, e in header.items() if n != "__metadata__"), key=lambda e: e["data_offsets"])
    entries[1]["data_offsets"] = list(entries[0]["data_offsets"])


def _huge_shape(header: dict[str, Any]) -> None:
    header[_a_name(header)]["shape"] = [1 << 40, 1 << 40]


def _point_index_at(shard: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        index["weight_map"][next(iter(index["weight_map"]))] = shard
        write_json(folder / INDEX, index)

    return damage


def _pickle_only(folder: Path) -> None:
    remove(INDEX, FIRST, SECOND)(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")


def _directory_for(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def _dangling_link(name: str, target: str = "not downloaded") -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(folder / target)

    return damage


def _link_to_itself(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")


def _pipe(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return damage


def _endless(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/zero")

    return damage


def _one_file(folder: Path) -> None:
    """As a program that saves over an older model leaves it: the whole model in one file."""
    save_file({**load_file(folder / FIRST), **load_file(folder / SECOND)}, folder / "model.safetensors")


def _one_file_and_a_stale_index(folder: Path) -> None:
    _one_file(folder)
    remove(FIRST, SECOND)(folder)
    shards = [f"model-{number:05}-of-00013.safetensors" for number in range(1, 14)]
    write_json(folder / INDEX, {"weight_map": {f"tensor {shard}": shard for shard in shards}})


def _only(name: str) -> Callable[[Path], None]:
    """No weights but this file."""

    def damage(folder: Path) -> None:
        remove(INDEX, FIRST, SECOND)(folder)
        (folder / name).write_bytes(b"anything")

    return damage


def _twice(folder: Path) -> None:
    save_file({**load_file(folder / SECOND), "model.embed_tokens.weight": torch.zeros(720, 32)}, folder / SECOND)
    save_file({**load_file(folder / FIRST), "model.embed_tokens.weight": torch.zeros(720, 32)}, folder / FIRST)


def _single_file_of_zeros(folder: Path) -> None:
    remove(INDEX, FIRST, SECOND)(folder)
    (folder / "model.safetensors").write_bytes(bytes(4096))


def _original_weights(folder: Path) -> None:
    def rename(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.final_norm.weight"] = torch.zeros(32)
        tensors.pop("model.norm.weight", None)

    def rename_in_second(folder: Path) -> None:
        tensors = load_file(folder / SECOND)
        tensors.pop("model.norm.weight", None)
        save_file(tensors, folder / SECOND)
        index = json.loads((folder / INDEX).read_text())
        index["weight_map"].pop("model.norm.weight", None)
        write_json(folder / INDEX, index)

    change_tensors(rename)(folder)
    rename_in_second(folder)


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5000000000\n"
NORM = "model.layers.0.input_layernorm.weight"  # in the first shard


def _set(name: str, tensor: torch.Tensor) -> Callable[[Path], None]:
    return change_tensors(lambda tensors: tensors.update({name: tensor}))


DEEP = b"[" * 100_000 + b"]" * 100_000

FOLDERS: dict[str, Broken] = {
    # The bytes of a shard
    "shard empty": Broken(replace_file(FIRST, b""), ModelNotFoundError, rf"{FIRST} is empty \(0 bytes\)"),
    "shard of 7 bytes": Broken(truncate(FIRST, lambda _: 7), CheckpointError, f"{FIRST} is damaged"),
    "shard cut in its header": Broken(
        truncate(FIRST, lambda _: 100), CheckpointError, f"{FIRST} is damaged .*100 bytes"
    ),
    "shard cut in its data": Broken(truncate(FIRST, lambda n: n - 1), CheckpointError, f"{FIRST} is damaged"),
    "shard with a byte too many": Broken(
        lambda folder: (folder / FIRST).open("ab").write(b"!"), CheckpointError, f"{FIRST} is damaged"
    ),
    "shard is a web page": Broken(
        replace_file(FIRST, b"<!doctype html><title>404</title>"), CheckpointError, f"{FIRST} is a web page"
    ),
    "header longer than the file": Broken(
        replace_file(FIRST, struct.pack("<Q", 50_000_000) + b"{}"), CheckpointError, f"{FIRST} is damaged"
    ),
    "header of 2^63 bytes": Broken(
        replace_file(FIRST, struct.pack("<Q", 1 << 63) + b"{}"), CheckpointError, f"{FIRST} is damaged"
    ),
    "header not JSON": Broken(
        replace_file(FIRST, struct.pack("<Q", 8) + b"{nothing"), CheckpointError, f"{FIRST} is damaged"
    ),
    "header a list": Broken(replace_file(FIRST, struct.pack("<Q", 2) + b"[]"), CheckpointError, f"{FIRST} is damaged"),
    "header not UTF-8": Broken(
        replace_file(FIRST, struct.pack("<Q", 8) + b'{"\xff\xfe": '), CheckpointError, f"{FIRST} is damaged"
    ),
    "header nested 100,000 deep": Broken(
        replace_file(FIRST, struct.pack("<Q", len(DEEP)) + DEEP), CheckpointError, f"{FIRST} is damaged"
    ),
    "offsets outside the file": Broken(change_header(_grow_last), CheckpointError, f"{FIRST} is damaged"),
    "offsets overlap": Broken(change_header(_overlap), CheckpointError, f"{FIRST} is damaged"),
    "offsets leave a hole": Broken(change_header(lambda h: _shift(h, 2)), CheckpointError, f"{FIRST} is damaged"),
    "offsets negative": Broken(change_header(lambda h: _shift(h, -(1 << 20))), CheckpointError, f"{FIRST} is damaged"),
    "shape of 2^80 elements": Broken(change_header(_huge_shape), CheckpointError, f"{FIRST} is damaged"),
    "unknown dtype": Broken(
        change_header(lambda h: h[_a_name(h)].update(dtype="Q3")), CheckpointError, f"{FIRST} is damaged"
    ),
    "single file of zeros": Broken(_single_file_of_zeros, CheckpointError, r"model.safetensors is damaged"),
    # What the tensors are
    "tensor missing": Broken(change_tensors(lambda tensors: tensors.pop(NORM)), CheckpointError, f"1 missing: {NORM}"),
    "tensor extra": Broken(_set("model.surprise", torch.zeros(3)), CheckpointError, "1 extra: model.surprise"),
    "tensor name that steers the terminal": Broken(
        _set("\x1b[31mred\nline", torch.zeros(3)), CheckpointError, r"1 extra: '\\x1b\[31mred\\nline'"
    ),
    "tensor misshapen": Broken(
        _set(NORM, torch.zeros(31, dtype=torch.bfloat16)),
        CheckpointError,
        rf"1 misshapen: {NORM} is \[31\] instead of \[32\]",
    ),
    "tensor float16": Broken(
        _set(NORM, torch.zeros(32, dtype=torch.float16)),
        CheckpointError,
        rf"F16 overflows in this model\): {NORM} is F16",
    ),
    "tensor int64": Broken(_set(NORM, torch.zeros(32, dtype=torch.int64)), CheckpointError, f"{NORM} is I64"),
    "tensor float8": Broken(_set(NORM, torch.zeros(32).to(torch.float8_e4m3fn)), CheckpointError, f"{NORM} is F8_E4M3"),
    "tensor in both shards": Broken(
        _twice, CheckpointError, rf"1 stored twice: model.embed_tokens.weight \(in {FIRST} and {SECOND}\)"
    ),
    "weights of the other layout": Broken(
        _original_weights,
        CheckpointError,
        "has weights of the original layout, but its config.json describes the native",
    ),
    # The index
    "index names ../x": Broken(_point_index_at("../x.safetensors"), CheckpointError, r"'\.\./x\.safetensors'; a plain"),
    "index names an absolute path": Broken(
        _point_index_at("/etc/x.safetensors"), CheckpointError, "'/etc/x.safetensors'"
    ),
    "index names a backslash path": Broken(_point_index_at("..\\x.safetensors"), CheckpointError, "a plain"),
    "index names a drive": Broken(_point_index_at("C:x.safetensors"), CheckpointError, "a plain"),
    "index names a pickle": Broken(
        _point_index_at("pytorch_model.bin"), CheckpointError, "'pytorch_model.bin'; a plain"
    ),
    "index names the folder": Broken(_point_index_at(".safetensors"), ModelNotFoundError, r"lacks \.safetensors"),
    "index says the wrong shard": Broken(
        _point_index_at(SECOND), CheckpointError, f"1 not where the index says: .*index: {SECOND}, found in {FIRST}"
    ),
    "index leaves a tensor out": Broken(
        lambda folder: write_json(
            folder / INDEX,
            {"weight_map": dict(list(json.loads((folder / INDEX).read_text())["weight_map"].items())[1:])},
        ),
        CheckpointError,
        "1 not in the index: model.embed_tokens.weight",
    ),
    "index not JSON": Broken(replace_file(INDEX, b"{"), CheckpointError, f"{INDEX} is not valid JSON"),
    "index a list": Broken(replace_file(INDEX, b"[]"), CheckpointError, f"{INDEX} has no weight_map"),
    "index empty": Broken(replace_file(INDEX, b""), ModelNotFoundError, f"{INDEX} is empty"),
    "index nested 100,000 deep": Broken(replace_file(INDEX, DEEP), CheckpointError, f"{INDEX} is not valid JSON"),
    "index maps to numbers": Broken(_point_index_at(5), CheckpointError, "'5'; a plain"),  # type: ignore[arg-type]
    "index lists nothing": Broken(replace_file(INDEX, b'{"weight_map": {}}'), CheckpointError, "has no weight_map"),
    # Files that are not there, or not files
    "shard missing": Broken(remove(SECOND), ModelNotFoundError, rf"lacks {SECOND} \(1 of 2 weight files\)"),
    "shard a dangling link": Broken(
        _dangling_link(SECOND), ModelNotFoundError, f"{SECOND} is a link to .*not downloaded, which is not there"
    ),
    "shard a directory": Broken(_directory_for(SECOND), ModelNotFoundError, f"{SECOND} is a folder, not a file"),
    "shard a pipe": Broken(_pipe(SECOND), ModelNotFoundError, f"{SECOND} is a pipe, socket or device"),
    "no weights": Broken(remove(INDEX, FIRST, SECOND), ModelNotFoundError, "neither model.safetensors nor"),
    "only a pickle": Broken(_pickle_only, ModelNotFoundError, "pytorch_model.bin cannot be used: .*only safetensors"),
    "shards without an index": Broken(
        remove(INDEX), ModelNotFoundError, f"{FIRST}, {SECOND} cannot be used without the index"
    ),
    "only an adapter": Broken(_only("adapter_model.safetensors"), ModelNotFoundError, "fine-tuning only: merge it"),
    "only GGUF": Broken(_only("zaya-q4.GGUF"), ModelNotFoundError, "zaya-q4.GGUF cannot be used: it is another"),
    "one file and a stale index": Broken(
        _one_file_and_a_stale_index,
        CheckpointError,
        f"13 files that {INDEX} names, of which 13 are not there.*delete {INDEX} if model.safetensors is meant",
    ),
    "one file and all shards": Broken(_one_file, CheckpointError, f"the 2 files that {INDEX} names. The index"),
    "head that is not the embedding": Broken(
        _set("lm_head.weight", torch.zeros(720, 32, dtype=torch.bfloat16)),
        CheckpointError,
        r"lm_head.weight that differs from model.embed_tokens.weight \(in rows 0 to 719\).*tie_word_embeddings",
    ),
    "head of another shape": Broken(_set("lm_head.weight", torch.zeros(720, 31)), CheckpointError, "1 extra: lm_head"),
    **{
        f"{name} a Git LFS pointer": Broken(
            replace_file(name, LFS_POINTER), ModelNotFoundError, f"{name} is a Git LFS pointer.*`git lfs pull`"
        )
        for name in (FIRST, INDEX, "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    },
    **{
        f"{name} a web page": Broken(
            replace_file(name, b"\n<!DOCTYPE html><title>404</title>"), CheckpointError, f"{name} is a web page"
        )
        for name in (FIRST, INDEX, "tokenizer.json", "tokenizer_config.json")
    },
    "config a web page": Broken(
        replace_file("config.json", b"<html><title>404</title>"), ConfigError, "config.json is a web page"
    ),
    "shard a git-annex pointer": Broken(
        replace_file(FIRST, b"/annex/objects/SHA256E-s5--x.safetensors\n"), ModelNotFoundError, "`git annex get .`"
    ),
    "shard a git-annex link": Broken(
        _dangling_link(FIRST, ".git/annex/objects/3/W/x"), ModelNotFoundError, "`git annex get .`"
    ),
    "tokenizer a dangling link": Broken(
        _dangling_link("tokenizer.json"), ModelNotFoundError, "tokenizer.json is a link to .*which is not there"
    ),
    **{
        f"{name} {what}": Broken(damage(name), ModelNotFoundError, f"{name} is a pipe, socket or device")
        for name in ("config.json", INDEX, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
        for what, damage in (("a pipe", _pipe), ("endless", _endless))
    },
    "no config": Broken(remove("config.json"), ModelNotFoundError, "has no config.json"),
    "config a directory": Broken(
        _directory_for("config.json"), ModelNotFoundError, "config.json is a folder, not a file"
    ),
    "config a link to itself": Broken(
        _link_to_itself, ModelNotFoundError, "config.json is a link to config.json, which"
    ),
    "no tokenizer": Broken(remove("tokenizer.json"), ModelNotFoundError, "has no tokenizer"),
    # The other JSON files
    "config not JSON": Broken(replace_file("config.json", b"{'a': 1}"), ConfigError, "config.json is not valid JSON"),
    "config empty": Broken(replace_file("config.json", b""), ModelNotFoundError, "config.json is empty"),
    "config not UTF-8": Broken(
        replace_file("config.json", b"\xff\xfe{}"), ConfigError, "config.json is not valid JSON"
    ),
    "config a list": Broken(replace_file("config.json", b"[]"), ConfigError, "config.json holds a list"),
    "config nested 100,000 deep": Broken(replace_file("config.json", DEEP), ConfigError, "nested too deeply"),
    "config of 5 MB": Broken(replace_file("config.json", b" " * 5_000_000), ConfigError, "has 5,000,000 bytes"),
    "config of another model": Broken(
        change_json("config.json", model_type="llama"), ConfigError, "model_type is 'llama'"
    ),
    "config of the vision model": Broken(
        change_json("config.json", model_type="zaya1_vl"), ConfigError, "vision model"
    ),
    "config negative": Broken(change_json("config.json", hidden_size=-32), ConfigError, "hidden_size is -32"),
    "config gigantic": Broken(change_json("config.json", vocab_size=10**300), ConfigError, "vocab_size is 1000+"),
    "config text for a number": Broken(change_json("config.json", head_dim="8"), ConfigError, "head_dim is '8'"),
    "config true for a number": Broken(
        change_json("config.json", num_experts=True), ConfigError, "num_experts is True"
    ),
    "config NaN": Broken(change_json("config.json", rms_norm_eps=float("nan")), ConfigError, "rms_norm_eps is nan"),
    "config of other sizes": Broken(change_json("config.json", hidden_size=64), CheckpointError, "misshapen"),
    "config top-2": Broken(change_json("config.json", num_experts_per_tok=2), ConfigError, "num_experts_per_tok is 2"),
    "config quantized": Broken(
        change_json("config.json", quantization_config={"quant_method": "compressed-tensors"}),
        ConfigError,
        "quantization_config has 0 kinds of weights",
    ),
    "tokenizer damaged": Broken(truncate("tokenizer.json", lambda n: n // 2), CheckpointError, "tokenizer.json"),
    "tokenizer empty": Broken(replace_file("tokenizer.json", b""), ModelNotFoundError, "tokenizer.json is empty"),
    "tokenizer settings not JSON": Broken(
        replace_file("tokenizer_config.json", b"{"), CheckpointError, "tokenizer_config.json is not valid JSON"
    ),
}


def contents(folder: Path) -> dict[str, object]:
    """What the folder holds, to see that nothing was written."""
    return {
        path.name: os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "directory"
        for path in folder.iterdir()
    }
