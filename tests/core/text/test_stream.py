"""Laws of the split into thinking and answer: nothing depends on where the tokens cut the text."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core import tokenizers_made_here as made
from zaya_core.errors import UsageError
from zaya_core.text.splitter import TextPiece, TextSplitter
from zaya_core.text.tokenizer import Tokenizer, load_tokenizer

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PARTS = ["<think>", "</think>", "</", "think>", "<", "\n", "\n\n", " ", "a", "STOP", "ST", "你", "🎉", "e\u0301", "end"]
outputs = st.lists(st.sampled_from(PARTS), max_size=10).map("".join)
stops = st.lists(st.sampled_from(["STOP", "TO", "a", "</", "\n\n", "🎉e", " ", "end<"]), max_size=3)


@pytest.fixture(scope="module")
def by_bytes(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """No think tokens: markers are text, and an id can be any number of bytes."""
    text = made.byte_level_text(("<bos>", "<|im_start|>", "<|im_end|>"))
    return load_tokenizer(made.write_folder(tmp_path_factory.mktemp("bytes"), text))


@pytest.fixture(scope="module")
def by_ids(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(made.write_folder(tmp_path_factory.mktemp("ids"), made.gemma_text()))


def split(tokenizer: Tokenizer, ids: list[int], thinking: bool, stop: list[str] | None = None) -> tuple[str, str]:
    """(thinking, answer); checks on the way that thinking comes first and that no piece is empty."""
    splitter = TextSplitter(tokenizer, thinking, stop or [])
    pieces = [piece for id_ in ids for piece in splitter.push(id_)] + splitter.flush()
    assert all(piece.text for piece in pieces)
    assert splitter.flush() == []
    thought, answer = ("".join(p.text for p in pieces if p.kind == kind) for kind in ("thinking", "answer"))
    return thought, answer


def ids_of_bytes(tokenizer: Tokenizer, text: str) -> list[int]:
    """One id for each byte, the finest cut there is."""
    by_byte = {tokenizer._vocabulary.bytes_of(id_): id_ for id_ in range(256)}
    return [by_byte[bytes([byte])] for byte in text.encode()]


@quick
@given(text=outputs, thinking=st.booleans(), stop=stops)
def test_the_text_does_not_depend_on_the_tokens(
    by_bytes: Tokenizer, text: str, thinking: bool, stop: list[str]
) -> None:
    coarse = split(by_bytes, by_bytes.encode(text), thinking, stop)
    assert split(by_bytes, ids_of_bytes(by_bytes, text), thinking, stop) == coarse


def split_whole(text: str, thinking: bool) -> tuple[str, str]:
    """The same split, written for a text that is there at once: what lies between markers, one after the other."""
    texts = {True: "", False: ""}
    parts = re.split("(<think>|</think>)", text)
    for part, marker in zip(parts[::2], [*parts[1::2], ""], strict=True):
        if texts[thinking][-1:] in ("", "\n"):
            part = part.lstrip("\n")
            part = part if part.strip() or not marker else ""
        texts[thinking] += part.rstrip("\n") if thinking and marker == "</think>" else part
        thinking = marker == "<think>"
    return texts[True], texts[False]


@quick
@given(text=outputs, thinking=st.booleans())
def test_streaming_equals_splitting_the_whole_text(by_bytes: Tokenizer, text: str, thinking: bool) -> None:
    thought, answer = split(by_bytes, ids_of_bytes(by_bytes, text), thinking)
    assert (thought, answer) == split_whole(text, thinking)
    if "<" not in re.sub("</?think>", "", text):  # else halves on both sides of a marker may spell another one
        assert "<" not in thought + answer


@quick
@given(thought=outputs, answer=outputs)
def test_streaming_by_the_id_of_the_marker_equals_splitting_the_whole_text(
    by_ids: Tokenizer, thought: str, answer: str
) -> None:
    assert by_ids.think_end_id is not None
    thought, answer = thought.replace("<", "("), answer.replace("<", "(")  # so that only the id is a marker
    ids = [*by_ids.encode(thought), by_ids.think_end_id, *by_ids.encode(answer)]
    assert split(by_ids, ids, True) == split_whole(f"{thought}</think>{answer}", True)


@pytest.mark.parametrize("newlines", ["", "\n", "\n\n"])
def test_a_marker_is_found_at_every_cut(by_bytes: Tokenizer, newlines: str) -> None:
    text = f"why{newlines}</think>{newlines}because"
    for cut in range(len(text) + 1):
        ids = by_bytes.encode(text[:cut]) + by_bytes.encode(text[cut:])
        assert split(by_bytes, ids, True) == ("why", "because")


def test_ids_of_markers_split_and_give_no_text(by_ids: Tokenizer) -> None:
    start, end = by_ids.think_start_id, by_ids.think_end_id
    assert start is not None
    assert end is not None
    a, b = by_ids.encode("\nwhy 🎉\n\n"), by_ids.encode("\n\nbecause\n")
    assert split(by_ids, [*a, end, *b, 106], True) == ("why 🎉", "because\n")
    assert split(by_ids, [start, *a, end, *b], True) == ("why 🎉", "because\n")
    assert split(by_ids, [*by_ids.encode("\n "), start, *a, end, *b], False) == ("why 🎉", "because\n")
    assert split(by_ids, [*b, start, *a, end], False) == ("why 🎉", "because\n")


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("Hello<think>why</think>Answer", "why", "HelloAnswer"),
        ("Hello\n\n<think>\nwhy\n</think>\n\nAnswer", "why", "Hello\n\nAnswer"),
        ("Hello<think>why</think>\n\nAnswer", "why", "Hello\n\nAnswer"),
        ("one</think>two</think>three", "", "onetwothree"),
        ("<think><think>a</think>b</think>c", "a", "bc"),
        ("<think>a<think>b</think>c", "ab", "c"),
        ("<think>\na\n</think>\n\nb\n<think>\nc\n</think>\n\nd", "a\nc", "b\nd"),
        ("b<think>never closed\n", "never closed\n", "b"),
        ("</think></think>\n<think></think>\n \n<think>\n</think>a", "", "a"),
    ],
)
def test_a_thought_is_a_thought_wherever_it_begins(
    by_bytes: Tokenizer, by_ids: Tokenizer, text: str, thought: str, answer: str, thinking: bool
) -> None:
    """Markers by id and by text, cut in every place; with thinking on, the thought of the prompt ends at once."""
    start, end = by_ids.think_start_id, by_ids.think_end_id
    assert start is not None
    assert end is not None
    text = f"</think>{text}" if thinking else text
    marked = {"<think>": [start], "</think>": [end]}
    ids = [id_ for part in re.split("(</?think>)", text) for id_ in marked.get(part) or by_ids.encode(part)]
    assert split(by_ids, ids, thinking) == (thought, answer)
    assert split(by_bytes, by_bytes.encode(text), thinking) == (thought, answer)
    assert split(by_bytes, ids_of_bytes(by_bytes, text), thinking) == (thought, answer)


def test_a_stop_string_is_looked_for_between_markers(by_bytes: Tokenizer) -> None:
    assert split(by_bytes, by_bytes.encode("a<think>STOP</think>bSTOPc"), False, ["STOP"]) == ("STOP", "ab")
    assert split(by_bytes, by_bytes.encode("ST<think>x</think>OP"), False, ["STOP"]) == ("x", "STOP")
    assert split(by_bytes, by_bytes.encode("a</think>b</c"), False, ["</"]) == ("", "ab")


def test_a_marker_spelled_in_characters_is_text_where_the_vocabulary_has_the_token(by_ids: Tokenizer) -> None:
    ids = by_ids.encode("the tag </think> ends it")
    assert split(by_ids, ids, True) == ("the tag </think> ends it", "")


def test_a_character_left_unfinished_at_the_marker_stays_in_the_thinking(by_ids: Tokenizer) -> None:
    assert by_ids.think_end_id is not None
    party = by_ids.encode("🎉")
    assert len(party) == 4
    ids = [*party[:2], by_ids.think_end_id, *by_ids.encode("yes")]
    assert split(by_ids, ids, True) == ("\ufffd", "yes")


def test_thinking_cut_off_by_a_budget_keeps_its_last_newlines(by_ids: Tokenizer) -> None:
    assert split(by_ids, by_ids.encode("so\n\n"), True) == ("so\n\n", "")


@pytest.mark.parametrize("stop", ["STOP", "O", "🎉S", "be", "e 🎉"])
def test_a_stop_string_ends_the_answer_at_every_cut(by_bytes: Tokenizer, stop: str) -> None:
    text = "because 🎉STOP and more"
    expected = text[: text.index(stop)]
    for cut in range(len(text) + 1):
        splitter = TextSplitter(by_bytes, False, [stop])
        told = ""
        for id_ in by_bytes.encode(text[:cut]) + by_bytes.encode(text[cut:]):
            told += "".join(piece.text for piece in splitter.push(id_))
            assert expected.startswith(told)
        assert (told, splitter.stopped_by, splitter.flush()) == (expected, stop, [])


def test_the_stop_string_completed_first_wins(by_bytes: Tokenizer) -> None:
    assert split(by_bytes, by_bytes.encode("abcde"), False, ["bcd", "c"]) == ("", "ab")
    whole = by_bytes.encode(" the")
    assert len(whole) == 1
    assert split(by_bytes, whole, False, ["the", "h"]) == ("", " t")
    splitter = TextSplitter(by_bytes, False, ["cd", "bcd"])
    assert [p for id_ in by_bytes.encode("abcde") for p in splitter.push(id_)] == [TextPiece("answer", "a")]
    assert splitter.stopped_by == "bcd"


def test_a_stop_string_inside_the_thinking_does_not_stop(by_ids: Tokenizer) -> None:
    assert by_ids.think_end_id is not None
    ids = [*by_ids.encode("a STOP b"), by_ids.think_end_id, *by_ids.encode("c STOP d")]
    assert split(by_ids, ids, True, ["STOP"]) == ("a STOP b", "c ")


def test_text_that_did_not_become_a_stop_string_is_given_out(by_bytes: Tokenizer) -> None:
    splitter = TextSplitter(by_bytes, False, ["STOP"])
    pieces = [piece for id_ in by_bytes.encode("go STO") for piece in splitter.push(id_)]
    assert "".join(piece.text for piece in pieces) == "go "
    assert splitter.flush() == [TextPiece("answer", "STO")]
    assert splitter.stopped_by is None


def test_a_stop_string_of_blanks_is_found_where_the_answer_is_nothing_else(by_bytes: Tokenizer) -> None:
    assert split(by_bytes, by_bytes.encode("\n \n\n"), False, ["\n\n"]) == ("", " ")


def test_control_ids_give_no_text(by_ids: Tokenizer) -> None:
    splitter = TextSplitter(by_ids, False)
    assert [piece for id_ in sorted(by_ids.control_ids) for piece in splitter.push(id_)] == []


def test_text_is_given_out_at_once_where_nothing_can_begin(by_ids: Tokenizer) -> None:
    splitter = TextSplitter(by_ids, True, ["STOP"])
    for id_ in by_ids.encode("the cat sat"):
        assert splitter.push(id_) == [TextPiece("thinking", by_ids.decode([id_]))]
    assert splitter.in_thinking


@pytest.mark.parametrize("stop", [[""], "STOP"])
def test_an_unusable_stop_string_is_refused(by_ids: Tokenizer, stop: list[str]) -> None:
    with pytest.raises(UsageError):
        TextSplitter(by_ids, False, stop)
