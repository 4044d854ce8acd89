"""Files of a model folder with bytes and values changed at random: the folder loads, or a sentence says why not.

`ZAYA_FUZZ_SECONDS=300 pytest tests/fuzz/test_model_folders.py` looks for longer.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.core.broken_folders import FIRST, INDEX, good_folder, write_json
from tests.fuzz.budget import rounds
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.config.parse import parse_config, read_config
from zaya_core.engine.generation_config import read_sampling_defaults
from zaya_core.errors import ModelNotFoundError, ZayaError
from zaya_core.text.tokenizer import load_tokenizer

ODD: list[Any] = [None, True, False, 0, 1, -1, 2, 106, 10**30, -(10**400), 0.5, 1e308, float("nan"), float("inf"), 50.0]
ODD += [
    "",
    "a",
    "hybrid",
    "\\",
    "\x1b[2J\n",
    "\ud800",
    "é" * 300,
    "../x",
    "null",
    [],
    {},
    [[]],
    [None],
    {"": []},
    [106, 1],
]
ODD += [["hybrid_sliding", "hybrid"], ["a", 2, "a", 2], {"hybrid": {"rope_theta": 1}}, [0, 16] * 3, [4, 0, 0, 0]]
KEYS = [
    "vocab_size",
    "zaya_layers",
    "smoe_layers",
    "swa_layers",
    "ffn_hidden_size_list",
    "quantization",
    "mask_token_id",
]
KEYS += [
    "cca_num_q_heads",
    "rope_theta",
    "kv_channels",
    "quantization_config",
    "layer_types",
    "sliding_window",
    "dtype",
]
GENERATION = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0, "do_sample": True, "eos_token_id": [106, 1]}
BYTES = [
    b"",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"{",
    b"]",
    b'"',
    b",",
    b"\\u",
    b"-",
    b"1e9",
    b"NaN",
    b"version https://git-lfs",
]


def change_value(random: Random, value: Any) -> Any:
    """One of the values inside, at any depth, becomes another one, is left out or is doubled."""
    children = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not children or random.random() < 0.1:
        return random.choice(ODD)
    at, changed = random.choice(children), value.copy()
    kind = random.randrange(6)
    if kind == 0:
        del changed[at]
    elif kind == 1 and isinstance(changed, dict):
        changed[random.choice([*KEYS, str(random.choice(ODD))])] = (
            changed[at] if random.random() < 0.5 else random.choice(ODD)
        )
    elif kind == 2 and isinstance(changed, list):
        changed.insert(at, random.choice(changed))
    elif kind == 3:
        changed[at] = random.choice(ODD)
    else:
        changed[at] = change_value(random, value[at])
    return changed


def change_bytes(random: Random, content: bytes) -> bytes:
    """A few places are overwritten, cut out or filled in."""
    for _ in range(random.randrange(1, 4)):
        at, length = random.randrange(len(content) + 1), random.choice([0, 1, 1, 2, 8, 1000])
        piece = random.choice([*BYTES, random.randbytes(random.randrange(1, 9))])
        content = content[:at] + piece + content[at + length :]
    return content


def changed(random: Random, content: bytes) -> bytes:
    """JSON with changed values or bytes, or both."""
    if random.random() < 0.7:
        value = json.loads(content)
        for _ in range(random.randrange(1, 4)):
            value = change_value(random, value)
        content = json.dumps(value).encode()
    return change_bytes(random, content) if random.random() < 0.4 else content


def changed_header(random: Random, content: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    header, data = changed(random, content[8 : 8 + length]), content[8 + length :]
    announced = random.choice([len(header)] * 8 + [0, length, 1 << 63, len(content) * 2])
    return struct.pack("<Q", announced) + header + data


def open_weights(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    for name in checkpoint.parameters:
        checkpoint.tensor(name).float().sum()
    checkpoint.expect_equal_head()


def use_tokenizer(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    ids = tokenizer.encode("the cat sat on <|im_end|> 你")
    allowed = {tokenizer._vocabulary.unknown_id}  # for what the vocabulary cannot spell
    assert tokenizer.control_ids.isdisjoint(set(ids) - allowed)
    tokenizer.decode([*ids, *range(0, tokenizer.vocab_size, 97)])


def outcome(number: int, use: Callable[[Any], object], what: Any) -> str:
    """The sentence that it ends in, empty where it works."""
    try:
        use(what)
    except ZayaError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"case {number}") from error
    return ""


# File, how it is changed, what is read of the folder, and how many cases the suite has time for.
FILES: dict[str, tuple[Callable[[Random, bytes], bytes], Callable[[Path], object], int]] = {
    "config.json": (changed, open_weights, 600),
    INDEX: (changed, open_weights, 300),
    FIRST: (changed_header, open_weights, 300),
    "generation_config.json": (changed, read_sampling_defaults, 600),
    "tokenizer.json": (changed, use_tokenizer, 100),
    "tokenizer_config.json": (changed, use_tokenizer, 60),
    "special_tokens_map.json": (changed, use_tokenizer, 60),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = good_folder(tmp_path_factory.mktemp("good") / "model")
    write_json(folder / "generation_config.json", GENERATION)
    write_json(
        folder / "special_tokens_map.json", {"bos_token": {"content": "<bos>"}, "extra_special_tokens": ["<|x|>"]}
    )
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_folder_loads_or_a_sentence_says_why_not(name: str, good: Path, tmp_path: Path) -> None:
    change, use, cases = FILES[name]
    for path in good.iterdir():
        if path.name != name:
            (tmp_path / path.name).symlink_to(path)
    content, taken = (good / name).read_bytes(), 0
    for number in rounds(cases):
        (tmp_path / name).unlink(missing_ok=True)  # the old file may still be mapped
        (tmp_path / name).write_bytes(change(Random(number), content))
        message = outcome(number, use, tmp_path)
        assert message.isprintable(), f"case {number}: {message!r}"
        assert len(message) < 20_000, f"case {number}: {message!r}"
        taken += not message
    assert taken


def test_any_settings_are_read_or_refused(good: Path) -> None:
    """Without a file, and so many more of them."""
    raw = json.loads((good / "config.json").read_text())
    original = {
        "model_type": "zaya",
        "smoe_layers": ["a", 2, "a", 2],
        "cca_num_q_heads": [2, 0, 2, 0],
        "rotary_base": 1e4,
    }
    original |= {
        "swa_layers": [4, 0, 0, 0],
        "ffn_hidden_size_list": [0, 16] * 2,
        "hidden_size": 32,
        "num_attention_heads": 4,
    }
    for number in rounds(3000):
        random, value = Random(number), random_choice(number, raw, original)
        for _ in range(random.randrange(1, 5)):
            value = change_value(random, value)
        raw_value = value if isinstance(value, dict) else {"model_type": value}
        assert outcome(number, parse_config, raw_value).isprintable(), f"case {number}: {value!r}"


def random_choice(number: int, *values: Any) -> Any:
    return values[number % len(values)]


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes")
def test_a_folder_may_have_a_name_of_any_bytes(good: Path, tmp_path: Path) -> None:
    for number in rounds(12):
        random = Random(number)
        name = bytes(byte for byte in random.randbytes(20) if byte not in b"/\0") + b"x"
        folder = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
        folder.symlink_to(good)
        open_weights(folder)
        use_tokenizer(folder)
        folder.unlink()
        with pytest.raises(ModelNotFoundError):
            read_config(folder)
