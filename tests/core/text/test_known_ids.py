"""The law of known ids: the text is the rendered one, the ids are those that the model has seen."""

from __future__ import annotations

from zaya_core.text.known_ids import keep_known_ids


def chat(*contents):
    return [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 9, contents, strict=False)]


def spelled_out(tokenizer, text):
    """Another tokenization of the same text: a token for each character."""
    return [id_ for character in text for id_ in tokenizer.encode(character)]


def test_an_answer_keeps_the_tokens_that_the_model_chose(tokenizer):
    prompt = tokenizer.render_chat(chat("the cat"), enable_thinking=False)
    answer = spelled_out(tokenizer, "sat on the mat")
    rendered = tokenizer.render_chat(chat("the cat", "sat on the mat", "and?"), enable_thinking=False)
    assert answer != tokenizer.encode("sat on the mat")
    ids = keep_known_ids(tokenizer, rendered, prompt + answer)
    assert ids[: len(prompt + answer)] == prompt + answer
    assert tokenizer.decode(ids, skip_special_tokens=False) == tokenizer.decode(rendered, skip_special_tokens=False)


def test_known_ids_end_where_the_texts_part(tokenizer):
    prompt = tokenizer.render_chat(chat("the cat"), enable_thinking=False)
    other = tokenizer.render_chat(chat("the dog", "sat", "and?"), enable_thinking=False)
    assert keep_known_ids(tokenizer, other, prompt + spelled_out(tokenizer, "sat")) == other
    unfinished = tokenizer.render_chat(chat("the cat", "sat on the mat", "and?"), enable_thinking=False)
    assert keep_known_ids(tokenizer, unfinished, prompt + spelled_out(tokenizer, "sat")) == unfinished
    assert keep_known_ids(tokenizer, prompt, []) == prompt
