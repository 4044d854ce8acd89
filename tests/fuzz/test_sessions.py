"""A damaged session is what was saved, or its valid texts read again, or one sentence; never another error."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.budget import rounds
from tests.fuzz.damage import damaged_json
from zaya_cli.chat.conversation import Exchange
from zaya_cli.chat.session_file import Loaded, Session, SessionFolder
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


def test_a_damaged_session_is_what_was_saved_or_its_texts_read_again_or_one_sentence(folder):
    path = folder.save("name", SESSION)
    content = path.read_bytes()
    assert folder.load("name") == Loaded(SESSION)
    refused = edited = 0
    for case in rounds(300):
        damaged = damaged_json(content, random.Random(case))
        path.write_bytes(damaged)
        try:
            loaded = folder.load("name")
        except UsageError as error:
            said = str(error)
        else:
            edited += loaded.is_edited
            if loaded.is_edited:
                assert_texts_alone(loaded.session)
            elif b'"checksum"' in damaged:
                assert loaded.session == SESSION, case
            continue
        refused += 1
        assert "is damaged or of another version; it was left as it is." in said
        assert path.read_bytes() == damaged
    assert refused > 100
    assert edited > 10


def assert_texts_alone(session):
    assert not session.known_ids
    assert not any(one.tokens for one in session.exchanges)
    texts = [text for one in session.exchanges for text in (one.question, one.thinking, one.answer)]
    assert all(isinstance(text, str) for text in texts)


def test_every_letter_that_flips_in_a_question_leaves_the_rest_of_the_conversation(folder):
    path = folder.save("name", SESSION)
    path.write_bytes(path.read_bytes().replace(b"What is 6*7?", b"What is 6*8?"))
    loaded = folder.load("name")
    assert loaded.is_edited
    assert [one.question for one in loaded.session.exchanges] == ["What is 6*8?", SESSION.exchanges[1].question]
    assert_texts_alone(loaded.session)


def test_a_session_without_a_checksum_is_read_with_its_types(folder):
    """As earlier versions wrote it, or somebody by hand: then only the types tell."""
    path = folder.save("name", SESSION)
    content = path.read_bytes()
    plain = content[: content.rindex(b', "checksum"')] + b"}"
    path.write_bytes(plain)
    assert folder.load("name") == Loaded(SESSION)
    for case in rounds(100):
        path.write_bytes(damaged_json(plain, random.Random(case)))
        try:
            loaded = folder.load("name").session
        except UsageError:
            continue
        assert 0 <= min(loaded.seed, loaded.asked) <= max(loaded.seed, loaded.asked) < 1 << 64
        assert all(isinstance(one.question, str) and isinstance(one.tokens, tuple) for one in loaded.exchanges)
