"""Laws of encoding and decoding, with transformers and the libraries themselves as the reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as JsonTokenizer

from tests.core import tokenizers_made_here as made
from zaya_core.errors import CheckpointError, ModelNotFoundError
from zaya_core.text.tokenizer import Tokenizer, load_tokenizer
from zaya_core.text.vocabulary import MOST_BYTES

MADE: dict[str, Callable[[], str | bytes]] = {
    "gemma": made.gemma_text,
    "llama": made.llama_text,
    "byte_level": made.byte_level_text,
    "leaking": made.leaking_text,
    "pieces": lambda: made.piece_model(dummy_prefix=False),
    "pieces_with_prefix": lambda: made.piece_model(dummy_prefix=True),
}
JSON_SHAPES = ["gemma", "llama", "byte_level", "leaking"]
CONTROL_STRINGS = ["<think>", "</think>", "<|im_start|>", "<|im_end|>", "<bos>", "<unk>", "<zyphra_tool_call>"]
# Characters of one to four bytes, a combining mark, a joined emoji, a flag, blanks, and parts of control tokens.
PARTS = [*CONTROL_STRINGS, *"<|im_end|>", "think", " the", "  ", "\n\n", "\t", "é", "e\u0301", "你好", "🎉"]
PARTS += ["👩\u200d👧", "🇩🇪", "\u00a0", "\ufffd", "<table>", "\u2581", "a", "\U000f0041"]
texts = st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=12).map("".join)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=MADE)
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(shape: str, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(folder_of(shape, tmp_path_factory.mktemp(shape)))


def folder_of(shape: str, path: Path) -> Path:
    return made.write_folder(path, MADE[shape](), tokenizer_config={"bos_token": "<bos>", "eos_token": "<|im_end|>"})


def test_plain_text_gives_no_control_token_and_decodes_to_itself(shape: str, tokenizer: Tokenizer) -> None:
    @quick
    @given(texts)
    def law(text: str) -> None:
        ids = tokenizer.encode(text)
        assert tokenizer.control_ids.isdisjoint(ids)
        if "\u2581" not in text or shape == "byte_level":  # the space symbol itself decodes as a space, by design
            expected = tokenizer.decode(ids)
            assert expected in (text, text.removeprefix(" "))  # Metaspace folds a first space into its prefix

    law()


@pytest.mark.parametrize("shape", JSON_SHAPES, indirect=True)
def test_plain_text_equals_the_reference_where_it_holds_no_control_string(shape: str, tokenizer: Tokenizer) -> None:
    reference = JsonTokenizer.from_str(str(MADE[shape]()))

    @quick
    @given(texts.filter(lambda text: not any(name in text for name in CONTROL_STRINGS)))
    def law(text: str) -> None:
        assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False).ids

    law()


@pytest.mark.parametrize("shape", JSON_SHAPES, indirect=True)
def test_decoding_equals_the_reference(shape: str, tokenizer: Tokenizer) -> None:
    reference = JsonTokenizer.from_str(str(MADE[shape]()))

    @quick
    @given(texts)
    def law(text: str) -> None:
        ids = reference.encode(text, add_special_tokens=False).ids  # control tokens too
        assert tokenizer.decode(ids, skip_special_tokens=False) == reference.decode(ids, skip_special_tokens=False)

    law()


def test_pieces_of_the_detokenizer_join_to_decode_and_hold_no_half_character(tokenizer: Tokenizer) -> None:
    @quick
    @given(texts.filter(lambda text: "\ufffd" not in text))
    def law(text: str) -> None:
        ids = tokenizer.encode(text)
        detokenizer = tokenizer.detokenizer()
        pieces = [detokenizer.add(id_) for id_ in ids]
        assert detokenizer.flush() == ""
        assert "".join(pieces) == tokenizer.decode(ids)
        assert not any("\ufffd" in piece for piece in pieces)

    law()


@pytest.mark.parametrize("text", ["🎉", "你", "e\u0301", "👩\u200d👧", "🇩🇪"])
def test_a_character_comes_out_with_its_last_byte(text: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder_of("leaking", tmp_path))
    detokenizer = tokenizer.detokenizer()
    given_out = b""
    for count, id_ in enumerate(tokenizer.encode(text), start=1):  # one id for each byte
        given_out += detokenizer.add(id_).encode()
        whole = text.encode()[:count].decode("utf-8", "ignore").encode()
        assert given_out == whole


def test_invalid_bytes_become_a_replacement_only_when_certain(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder_of("leaking", tmp_path))
    party, letter = tokenizer.encode("🎉"), tokenizer.encode("a")[0]
    detokenizer = tokenizer.detokenizer()
    assert [detokenizer.add(id_) for id_ in [party[0], party[1], letter]] == ["", "", "\ufffda"]
    assert [detokenizer.add(party[0]), detokenizer.flush(), detokenizer.flush()] == ["", "\ufffd", ""]


def test_any_ids_decode_the_same_whole_and_in_pieces(tokenizer: Tokenizer) -> None:
    @quick
    @given(st.lists(st.integers(-1, tokenizer.vocab_size + 1), max_size=30), st.booleans())
    def law(ids: list[int], skip: bool) -> None:
        detokenizer = tokenizer.detokenizer(skip)
        pieces = "".join([detokenizer.add(id_) for id_ in ids]) + detokenizer.flush()
        assert pieces == tokenizer.decode(ids, skip)

    law()


@pytest.mark.parametrize("shape_with_prefix", ["llama", "pieces_with_prefix"])
def test_only_the_first_space_of_a_text_is_dropped(shape_with_prefix: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder_of(shape_with_prefix, tmp_path))
    detokenizer = tokenizer.detokenizer()
    pieces = [detokenizer.add(id_) for id_ in tokenizer.encode("the cat  sat the")]
    assert "".join(pieces) == "the cat  sat the"
    assert pieces[0][0] == "t"
    assert any(piece.startswith(" ") for piece in pieces)


def test_encoding_adds_no_bos_and_no_eos(tmp_path: Path) -> None:
    # Gemma 3's own post-processor appends EOS too: the model would stop after one token.
    tokenizer = load_tokenizer(folder_of("gemma", tmp_path))
    reference = JsonTokenizer.from_str(made.gemma_text()).encode("the cat").ids
    assert (reference[0], reference[-1]) == (2, 106)
    assert tokenizer.encode("the cat") == reference[1:-1]


def test_truncation_and_padding_left_in_the_file_do_not_touch_a_prompt(tmp_path: Path) -> None:
    trained = JsonTokenizer.from_str(made.gemma_text())
    trained.enable_truncation(4)
    trained.enable_padding(length=64)
    tokenizer = load_tokenizer(made.write_folder(tmp_path, trained.to_str()))
    text = "the cat sat on the mat and the dog ran to the house"
    assert tokenizer.encode(text) == JsonTokenizer.from_str(made.gemma_text()).encode(text).ids[1:-1]


def test_text_around_a_control_string_is_encoded_as_without_it(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder_of("gemma", tmp_path))
    before, after = tokenizer.encode("the cat sat "), tokenizer.encode(" on the mat and the dog ran")
    ids = tokenizer.encode("the cat sat <think> on the mat and the dog ran")
    assert (ids[: len(before)], ids[-len(after) :]) == (before, after)


def test_half_a_surrogate_pair_is_a_replacement_character(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud83c")) == "a\ufffd"
    assert tokenizer.decode(tokenizer.encode("a\ud83c\udf89")) == "a🎉"


def test_structural_tokens_are_control_tokens_even_where_the_file_says_otherwise(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder_of("gemma", tmp_path))
    assert tokenizer.think_start_id is not None
    assert tokenizer.think_end_id is not None
    assert {0, 1, 2, 3, *range(101, 107), tokenizer.think_start_id, tokenizer.think_end_id} == tokenizer.control_ids
    assert tokenizer.token_text(tokenizer.think_end_id) == "</think>"
    assert tokenizer.encode("\n\n") == [JsonTokenizer.from_str(made.gemma_text()).token_to_id("\n\n")]


def test_ids_of_the_other_tokens_do_not_move(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder_of("gemma", tmp_path))
    reference = JsonTokenizer.from_str(made.gemma_text())
    assert tokenizer.vocab_size == reference.get_vocab_size(with_added_tokens=True)
    assert tokenizer.decode([tokenizer.vocab_size, tokenizer.vocab_size + 1, 10**9, -1]) == ""


def test_unknown_words_may_give_the_unknown_token_and_nothing_else(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(made.write_folder(tmp_path, made.word_text()))
    assert tokenizer.encode("the dog sat <|im_end|>") == [3, 0, 5, 0, 0]  # the name in two halves
    assert tokenizer.decode([3, 4, 5]) == "the cat sat"


def test_stop_ids_join_every_source_and_106(tmp_path: Path) -> None:
    folder = made.write_folder(
        tmp_path, made.gemma_text(), config={"eos_token_id": 1}, generation_config={"eos_token_id": [7, 9]}
    )
    assert load_tokenizer(folder).stop_ids == {1, 7, 9, 106}


def test_106_is_no_stop_where_the_vocabulary_says_it_is_something_else(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder_of("byte_level", tmp_path))
    assert tokenizer.token_text(106) not in ("", "<|im_end|>")
    assert 106 not in tokenizer.stop_ids
    assert len(tokenizer.stop_ids) == 1


def test_106_is_a_stop_where_the_vocabulary_ends_before_it(tmp_path: Path) -> None:
    assert load_tokenizer(made.write_folder(tmp_path, made.word_text())).stop_ids == {2, 106}


def test_bos_is_found_by_name_or_by_id(tmp_path: Path) -> None:
    named = made.write_folder(tmp_path / "a", made.gemma_text(), special_tokens_map={"bos_token": {"content": "<bos>"}})
    numbered = made.write_folder(tmp_path / "b", made.gemma_text(), config={"bos_token_id": 2})
    for folder in (named, numbered):
        tokenizer = load_tokenizer(folder)
        assert tokenizer.bos_id == 2
        assert tokenizer.render_chat([{"role": "user", "content": "a"}])[0] == 2
    assert load_tokenizer(made.write_folder(tmp_path / "c", made.gemma_text())).bos_id is None


def test_added_tokens_of_a_piece_model_are_known_by_the_config(tmp_path: Path) -> None:
    config = {"added_tokens_decoder": {"400": {"content": "</think>", "special": False}}}
    tokenizer = load_tokenizer(made.write_folder(tmp_path, made.piece_model(False), tokenizer_config=config))
    assert (tokenizer.think_end_id, tokenizer.vocab_size) == (400, 401)
    ids = tokenizer.render_chat([{"role": "user", "content": "</think>"}], enable_thinking=False)
    assert ids.count(400) == 1
    assert tokenizer.decode(tokenizer.encode("a</think>")) == "a</think>"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_tokenizer_ends_in_one_sentence(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = data.draw(st.sampled_from([made.byte_level_text(), made.llama_text()]))
    at = data.draw(st.integers(0, len(content) - 1))
    damage = data.draw(st.sampled_from(["", "}", '"', "-", "null", "\x00", "9" * 30]))
    cut = data.draw(st.booleans())
    folder = tmp_path_factory.mktemp("damaged")
    made.write_folder(folder, content[:at] + damage + ("" if cut else content[at + 1 :]))
    message = "some damage is still a tokenizer"
    try:
        load_tokenizer(folder)
    except CheckpointError as error:  # nothing else may come out
        message = str(error)
    assert message.isprintable()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.model", b"not a model"),
        ("tokenizer.json", b"\xff\xfe"),
        ("tokenizer.json", json.dumps({**json.loads(made.word_text()), "decoder": {"type": "CTC"}}).encode()),
        ("tokenizer_config.json", b"[1]"),
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b'{"a": ' + b"[" * 100_000),
        ("tokenizer_config.json", b'{"added_tokens_decoder": [1]}'),
        ("tokenizer_config.json", b'{"chat_template": 3}'),
        ("config.json", b'{"eos_token_id": "106"}'),
        ("generation_config.json", b'{"eos_token_id": [true]}'),
        ("chat_template.jinja", b"\xff"),
        ("chat_template.jinja", b"{% if %}"),
        ("chat_template.jinja", b"a" * (1 << 20) + b"b"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    if not name.startswith("tokenizer.m"):
        made.write_folder(tmp_path, made.word_text())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_an_empty_file_is_a_download_that_did_not_finish(name: str, tmp_path: Path) -> None:
    if not name.startswith("tokenizer.m"):
        made.write_folder(tmp_path, made.word_text())
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match=rf"{name} is empty \(0 bytes\)"):
        load_tokenizer(tmp_path)


def test_an_oversized_tokenizer_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(CheckpointError, match=f"{MOST_BYTES:,}"):
        load_tokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.json or tokenizer\.model"):
        load_tokenizer(tmp_path)


def test_names_of_control_tokens_are_those_tokens_only_where_it_is_asked_for(tokenizer):
    text = "a<|im_start|>user\nthe cat<|im_end|>a<think>"
    parsed, plain = tokenizer.encode(text, parse_special=True), tokenizer.encode(text)
    named = [tokenizer.id_of(name) for name in ("<|im_start|>", "<|im_end|>", "<think>")]
    assert [id_ for id_ in parsed if id_ in tokenizer.control_ids] == [id_ for id_ in named if id_ is not None]
    assert tokenizer.control_ids.isdisjoint(plain)
    assert tokenizer.decode(plain) == tokenizer.decode(parsed, skip_special_tokens=False) == text
    assert tokenizer.encode("the cat", parse_special=True) == tokenizer.encode("the cat")
    assert tokenizer.encode("", parse_special=True) == []


def test_the_bytes_of_all_ids_of_a_text_are_its_bytes(tokenizer):
    text = "the cat 你🎉é\n"
    spelled = b"".join(tokenizer.bytes_of(id_) for id_ in tokenizer.encode(text))
    assert spelled.decode().removeprefix(" ") == text
    assert tokenizer.bytes_of(tokenizer.vocab_size) == b""
