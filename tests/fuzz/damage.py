"""What a bad disk, a cut transfer or a curious person does to a file."""

from __future__ import annotations

import json
import random
import re
from typing import Any

_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    2**64,
    10**30,
    1.5,
    float("nan"),
    "",
    "\x00",
    "\ud800",
    [],
    {},
    [[]],
    {"a": 1},
)


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bits flipped, a part cut out, doubled, overwritten, moved, or the end lost; perhaps the same as before."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        start = rng.randrange(len(data) + 1)
        stop = min(len(data), start + rng.choice((1, 2, 8, 64, 4096)))
        kind = rng.randrange(6)
        if kind == 0 and start < len(data):
            data[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[start:stop]
        elif kind == 2:
            data[start:start] = data[start:stop]
        elif kind == 3:
            data[start:stop] = rng.choice((b"\x00", b"\xff", b"9", b"[", b"e")) * (stop - start)
        elif kind == 4:
            del data[start:]
        else:
            data[start:start] = rng.randbytes(stop - start)
    return bytes(data)


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """The bytes damaged, or a value replaced, a key doubled or lost, a number made huge, or deep nesting put in."""
    kind = rng.randrange(8)
    text = content.decode()
    if kind == 0:
        numbers = [*re.finditer(r"\d+", text)]
        one = rng.choice(numbers)
        number = rng.choice(("9" * 400, "9" * 5000, "NaN", "Infinity", "-1", "1e999", "0.5", str(rng.randrange(10**6))))
        return (text[: one.start()] + number + text[one.end() :]).encode()
    if kind == 1:
        at = rng.randrange(len(text))
        depth = rng.choice((100, 990, 100_000))
        return (text[:at] + rng.choice("[{") * depth + text[at:]).encode()
    if kind == 2:
        keys = [*re.finditer(r'"\w+": ', text)]
        one = rng.choice(keys)
        return (
            text[: one.start()] + f"{one.group()}{json.dumps(rng.choice(_VALUES))}, " + text[one.start() :]
        ).encode()
    if kind == 3:
        value = json.loads(text)
        _replace_one(value, rng)
        return json.dumps(value).encode()
    return damaged_bytes(content, rng)


def _replace_one(value: Any, rng: random.Random) -> None:
    """Somewhere in nested lists and objects."""
    places: list[tuple[Any, Any]] = []

    def visit(inner: Any) -> None:
        keys = inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        for key in keys:
            places.append((inner, key))
            visit(inner[key])

    visit(value)
    container, key = rng.choice(places)
    if isinstance(container, dict) and rng.random() < 0.3:
        container[f"{key}x"] = container.pop(key)
    else:
        container[key] = rng.choice(_VALUES)
