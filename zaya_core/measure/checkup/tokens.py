"""Whether a tokenizer is that of its model: known ids, rows enough in the embedding, and turns that end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zaya_core.config.model_config import ModelConfig
from zaya_core.measure.checkup.finding import Finding
from zaya_core.measure.checkup.golden import Golden, Known
from zaya_core.measure.checkup.text import PROSE
from zaya_core.text.token_names import THINK_END, TURN_END, TURN_START
from zaya_core.text.tokenizer import Tokenizer

_SAMPLE = PROSE + '\n\ndef f(x):\n    return {"x": x ** 2}  # 3.14, 1,000\n\n\u00fcber \u6f22\u5b57 \U0001f41f\n'
_TURNS = [{"role": "user", "content": "One."}, {"role": "assistant", "content": "Two."}]
_PADDING = 4096  # rows of an embedding that no token needs: most that a round number leaves


def check_tokens(tokenizer: Tokenizer, config: ModelConfig, known: Known) -> Iterator[Finding]:
    """Of any tokenizer, and of a known model's. Raises the errors of rendering."""
    yield _vocabulary(tokenizer, config)
    yield _round_trip(tokenizer, known.is_named)
    yield _turns(tokenizer, config)
    golden = known.golden
    if golden is None:
        yield Finding("known text", "none: this is no model whose ids are published")
    else:
        yield _known_text(tokenizer, golden, known.is_named)
        yield _control_tokens(tokenizer, golden, known.is_named)


def _vocabulary(tokenizer: Tokenizer, config: ModelConfig) -> Finding:
    """Pieces without a row would end a pass with an error; rows without pieces are another model's."""
    words = f"{tokenizer.vocab_size:,} tokens for the {config.vocab_size:,} rows of the embedding"
    if tokenizer.vocab_size > config.vocab_size:
        return Finding("tokenizer", f"{words}, which are too few: it is another model's", "problem")
    if config.vocab_size - tokenizer.vocab_size > max(_PADDING, config.vocab_size // 10):
        return Finding("tokenizer", f"{words}, of which most have none: it is another model's", "problem")
    return Finding("tokenizer", words)


def _round_trip(tokenizer: Tokenizer, is_known: bool) -> Finding:
    ids = tokenizer.encode(_SAMPLE)
    text = tokenizer.decode(ids)
    if text == _SAMPLE:
        return Finding("text", f"{len(_SAMPLE):,} characters are {len(ids):,} tokens, which are the same text again")
    at = next((at for at, (a, b) in enumerate(zip(text, _SAMPLE, strict=False)) if a != b), min(len(text), len(_SAMPLE)))
    start = max(0, at - 10)
    became = f"{_SAMPLE[start : at + 10]!r} becomes {text[start : at + 10]!r}"
    text = f"what is encoded is not what is decoded: {became}"
    return Finding("text", text, "problem" if is_known else "note")  # some vocabularies cannot spell everything


def _turns(tokenizer: Tokenizer, config: ModelConfig) -> Finding:
    """Whether the template ends a turn of the assistant with an id at which generation stops."""
    ids = tokenizer.render_chat(_TURNS, add_generation_prompt=False)
    end = next((id_ for id_ in reversed(ids) if id_ in tokenizer.control_ids), None)
    prompt = tokenizer.render_chat(_TURNS[:1])
    if end is None:
        return Finding("template", "a turn ends with no control token: answers will not end by themselves", "problem")
    name = tokenizer.token_text(end)
    if end not in tokenizer.stop_ids:
        return Finding(
            "template", f"a turn ends with {name} ({end}), at which generation does not stop: {_ids(config)}", "problem"
        )
    if config.eos_token_ids and end not in config.eos_token_ids:
        return Finding("template", f"a turn ends with {name} ({end}); {_ids(config)}, which is not asked for it", "note")
    thinking = "inside" if tokenizer.starts_in_thinking(prompt) else "outside"
    twice = prompt.count(tokenizer.bos_id) if tokenizer.bos_id is not None else 1
    if twice > 1:
        return Finding("template", f"a prompt begins with {twice} BOS ids ({tokenizer.bos_id}); one is right", "note")
    return Finding("template", f"a turn ends with {name} ({end}), the EOS; answers begin {thinking} of thinking")


def _ids(config: ModelConfig) -> str:
    return f"eos_token_id of config.json is {', '.join(map(str, config.eos_token_ids)) or 'not set'}"


def _known_text(tokenizer: Tokenizer, golden: Golden, is_named: bool) -> Finding:
    found = tokenizer.encode(golden.text)
    if found == list(golden.text_ids):
        return Finding("known text", f"{golden.text!r} has the known {len(found)} ids")
    at = next((at for at, (a, b) in enumerate(zip(found, golden.text_ids, strict=False)) if a != b), None)
    place = f"{len(found)} ids in place of {len(golden.text_ids)}"
    if at is not None:
        place = f"id {at} is {found[at]} in place of {golden.text_ids[at]}"
    words = f"{golden.text!r} has other ids than {golden.name}'s tokenizer gives ({place})"
    return Finding("known text", f"{words}: the tokenizer is another model's", "problem" if is_named else "note")


def _control_tokens(tokenizer: Tokenizer, golden: Golden, is_named: bool) -> Finding:
    wrong, odd = _moved(tokenizer, golden.tokens), _moved(tokenizer, golden.probable_tokens)
    if wrong:
        text = f"{wrong}: the tokenizer is another model's"
        return Finding("control", text, "problem" if is_named else "note")
    if odd:
        return Finding("control", f"{odd}: expected, but not published", "note")
    tokens = {**golden.tokens, **golden.probable_tokens}
    shown = ", ".join(f"{name} {tokens[name]}" for name in (TURN_START, TURN_END, THINK_END) if name in tokens)
    return Finding("control", f"all {len(tokens)} known control tokens have their ids: {shown}")


def _moved(tokenizer: Tokenizer, tokens: Mapping[str, int]) -> str:
    """Those that stand elsewhere, in words."""
    found = {name: tokenizer.id_of(name) for name in tokens}
    return ", ".join(
        f"{name} is {'missing' if found[name] is None else found[name]} in place of {id_}"
        for name, id_ in tokens.items()
        if found[name] != id_
    )
