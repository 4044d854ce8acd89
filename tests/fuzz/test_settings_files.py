"""A config.toml of any content is used, or refused in one sentence that names it."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.budget import rounds
from tests.fuzz.damage import damaged_bytes
from zaya_cli.app import all_settings
from zaya_cli.flags.settings import defaults_by_command, read_config_file
from zaya_core.errors import UsageError

WHOLE = b"""# everything that can be set
model = "demo"
temperature = 0.7
top_k = 40
seed = 7
threads = 2
thinking = "hide"
history = false
system = "be \\u00e9 kind"
"""
PIECES = (
    b"seed = ", b"model = ", b"history = ", b"temprature = 1", b"[run]", b"[[a]]", b"{", b"[" * 400, b"9" * 5000,
    b"0x1F", b"1e400", b"nan", b"-inf", b"true", b"1979-05-27T07:32:00Z", b'"\\u0000"', b'"""', b"'\x00'", b"\xff",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\n", b" = ", b"=", b".", b'"', b"a.b.c = 1", b"thinking = 1", b"ctx = 1_0",
)  # fmt: skip


@pytest.fixture(scope="module")
def settings():
    return all_settings()


def content_of(case: int) -> bytes:
    rng = random.Random(case)
    if case % 2:
        return damaged_bytes(WHOLE, rng)
    return b"".join(rng.choice(PIECES) + rng.choice((b"", b"\n")) for _ in range(rng.randrange(1, 9)))


def test_a_settings_file_of_any_content_is_used_or_refused_by_its_name(tmp_path, settings):
    path = tmp_path / "config.toml"
    refused = used = 0
    for case in rounds(600):
        path.write_bytes(content_of(case))
        try:
            values = read_config_file(path, settings)
        except UsageError as error:
            said = str(error)
        else:
            used += 1
            assert values.keys() <= settings.keys(), case
            defaults_by_command(values, settings)
            assert not any(isinstance(value, str) and "\0" in value for value in values.values()), case
            continue
        refused += 1
        assert str(path) in said, case
        assert len(said) < 6000, case
    assert refused > 100
    assert used > 20
