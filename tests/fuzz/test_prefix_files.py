"""A damaged file of computed state is what was saved, or is not used; it takes no memory and raises no other error."""

from __future__ import annotations

import json
import random
import resource

import pytest
import torch

from tests.fuzz.budget import rounds
from tests.fuzz.damage import damaged_bytes, damaged_json
from zaya_cli.models.folder import BUNDLED
from zaya_core.cache.prefix_file import load_prefixes, save_prefixes
from zaya_core.cache.prefixes import Prefix
from zaya_core.errors import CheckpointError
from zaya_core.load import load_model

IDS = tuple(range(20, 45))
LENGTHS = (9, 25)


@pytest.fixture(scope="module")
def model():
    return load_model(BUNDLED / "demo", device="cpu")


@pytest.fixture
def prefixes(model):
    cache = model.new_cache(1)
    found = []
    for start, stop in zip((0, *LENGTHS), LENGTHS, strict=False):
        model(torch.tensor([IDS[start:stop]]), cache)
        found.append(Prefix(IDS[:stop], cache.snapshot()))
    return found


def plain(prefixes):
    """All numbers, to be compared."""
    return [
        (
            prefix.ids,
            {name: tensor.clone() for name, tensor in prefix.snapshot.tables[0].read(len(prefix.ids)).items()},
            prefix.snapshot.cca.conv_tail.clone(),
            prefix.snapshot.cca.delayed.clone(),
        )
        for prefix in prefixes
    ]


def same(one, other):
    return repr(one) == repr(other) and all(
        torch.equal(a[2], b[2])
        and torch.equal(a[3], b[3])
        and all(torch.equal(a[1][name], b[1][name]) for name in a[1])
        for a, b in zip(one, other, strict=True)
    )


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The header, which says where and how long everything is, as often as the numbers."""
    length = int.from_bytes(content[:8], "little")
    header, numbers = content[8 : 8 + length], content[8 + length :]
    kind = rng.randrange(4)
    if kind == 0:
        header = damaged_json(json.dumps(json.loads(header)).encode(), rng)
        return len(header).to_bytes(8, "little") + header + numbers
    if kind == 1:
        return rng.choice((0, 7, 10**6, 10**12, 2**64 - 1)).to_bytes(8, "little") + content[8:]
    if kind == 2:  # numbers that are none
        at = 4 * rng.randrange(len(numbers) // 4)
        return content[:8] + header + numbers[:at] + b"\xff\xff\xff\x7f" + numbers[at + 4 :]
    return damaged_bytes(content, rng)


def test_a_damaged_state_is_what_was_saved_or_is_not_used(model, prefixes, tmp_path):
    path = tmp_path / "state"
    save_prefixes(path, prefixes, "these weights")
    content, expected = path.read_bytes(), plain(prefixes)
    assert same(plain(load_prefixes(path, model.states, "these weights")), expected)
    blocks, refused, before = model.states.pool.blocks_in_use, 0, _peak_bytes()
    for case in rounds(120):
        path.write_bytes(damaged(content, random.Random(case)))
        try:
            assert same(plain(load_prefixes(path, model.states, "these weights")), expected), case
            continue
        except CheckpointError as error:
            said = str(error)
        refused += 1
        assert str(path) in said
        assert model.states.pool.blocks_in_use == blocks
    assert refused > 70
    assert _peak_bytes() - before < 256 << 20


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
