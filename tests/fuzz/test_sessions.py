"""A damaged session is what was saved, or one sentence; never another conversation and never another error."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.budget import rounds
from tests.fuzz.damage import damaged_json
from zaya_cli.conversation import Exchange
from zaya_cli.session_file import Session, SessionFolder
from zaya_core.errors import UsageError

SESSION = Session(
    "Zyphra/ZAYA1-8B", "0123456789abcdef", "Be kind – and brief.", 7, 3,
    [
        Exchange("What is 6*7?", "6*7=42", "42", "stop", (12, 250, 106), 0),
        Exchange('Say "é\n\x1b[2J"', "", "é", "cancelled", (), 2),
    ],
    [2, 105, 12, 250, 106],
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return SessionFolder(tmp_path)


def test_a_damaged_session_is_what_was_saved_or_one_sentence(folder):
    path = folder.save("name", SESSION)
    content = path.read_bytes()
    assert folder.load("name") == SESSION
    refused = 0
    for case in rounds(300):
        damaged = damaged_json(content, random.Random(case))
        path.write_bytes(damaged)
        try:
            assert folder.load("name") == SESSION, case
            continue
        except UsageError as error:
            said = str(error)
        refused += 1
        assert "is damaged or of another version; it was left as it is." in said
        assert path.read_bytes() == damaged
    assert refused > 200


def test_a_session_without_a_checksum_is_read_with_its_types(folder):
    """As earlier versions wrote it, or somebody by hand: then only the types tell."""
    path = folder.save("name", SESSION)
    content = path.read_bytes()
    plain = content[: content.rindex(b', "checksum"')] + b"}"
    path.write_bytes(plain)
    assert folder.load("name") == SESSION
    for case in rounds(100):
        path.write_bytes(damaged_json(plain, random.Random(case)))
        try:
            loaded = folder.load("name")
        except UsageError:
            continue
        assert 0 <= min(loaded.seed, loaded.asked) <= max(loaded.seed, loaded.asked) < 1 << 64
        assert all(isinstance(one.question, str) and isinstance(one.tokens, tuple) for one in loaded.exchanges)
