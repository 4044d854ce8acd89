"""Laws of salts: nobody goes on from what was computed under another one, and answers are the same with any."""

from __future__ import annotations

import pytest

from tests.core.engine.test_engine import PLAIN, ask, finished, run, tokens
from zaya_core.engine.engine import Engine
from zaya_core.engine.prompt_tree import SaltedPrompts

SALTS = [b"", b"one", b"two", "two"]


@pytest.fixture
def engine(model, tokenizer):
    return Engine(model, tokenizer, chunk=16)


def cached(events):
    return finished(events).stats.cached_tokens


def test_prompts_that_wait_share_their_beginning_within_a_salt_only(engine):
    rows = run(engine, *[ask([*PLAIN, 400 + n], salt=salt) for n in range(2) for salt in SALTS])
    firsts = [cached(events) for events in rows]
    assert firsts == [0, 0, 0, len(PLAIN) + 1, *[len(PLAIN)] * 3, len(PLAIN) + 1]  # a text is its bytes


def test_kept_states_are_found_within_a_salt_only(engine):
    kept = ask(PLAIN, salt="one", snapshot_at=(20, 30), keep_state=True)
    (expected,) = run(engine, kept)
    longer = [*PLAIN, *tokens(expected), 500]
    for salt, length in (("", 0), ("two", 0), ("One", 0), ("one", len(longer) - 2)):
        (events,) = run(engine, ask(longer, salt=salt))
        assert cached(events) == length, salt


def test_a_salt_changes_no_token(engine, model, tokenizer):
    (expected,) = run(Engine(model, tokenizer, chunk=16), ask())
    for salt in SALTS * 2:
        (events,) = run(engine, ask(salt=salt, snapshot_at=(17,)))
        assert tokens(events) == tokens(expected)


def test_a_cancelled_prompt_keeps_its_state_under_its_salt(engine):
    request = engine.submit(ask(PLAIN, salt="one", keep_state=True))
    engine.step()
    engine.cancel(request)
    engine.step()
    assert [cached(run(engine, ask(salt=salt))[0]) for salt in ("", "two", "one")] == [0, 0, 16]


def test_all_of_a_salt_can_be_forgotten_and_nothing_else(engine):
    for salt in ("one", "two"):
        run(engine, ask(salt=salt, snapshot_at=(20, 30)))
    engine.prefixes.forget_beyond((), b"one")
    assert not engine.prefixes.beginnings_of(PLAIN, b"one")
    assert len(engine.prefixes.beginnings_of(PLAIN, b"two")) == len(engine.prefixes) == 2


def test_no_tree_is_left_of_a_salt_without_prompts():
    prompts = SaltedPrompts()
    prompts.add(PLAIN, b"one")
    assert prompts.partings([*PLAIN[:20], 1], b"one") == [20]
    assert prompts.partings([*PLAIN[:20], 1], b"two") == []
    prompts.remove(PLAIN, b"one")
    assert not prompts._trees
