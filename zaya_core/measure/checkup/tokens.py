"""Whether a tokenizer is that of its model: known ids, rows enough in the embedding, and turns that end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zaya_core.config.model_config import ModelConfig
from zaya_core.measure.checkup.finding import Finding, State
from zaya_core.measure.checkup.golden import Golden, Known
from zaya_core.measure.checkup.text import PROSE
from zaya_core.text.known_ids import common_length
from zaya_core.text.tokenizer import Tokenizer

_SAMPLE = PROSE + '\n\ndef f(x):\n    return {"x": x ** 2}  # 3.14, 1,000\n\n\u00fcber \u6f22\u5b57 \U0001f41f\n'
_TURNS = [{"role": "user", "content": "One."}, {"role": "assistant", "content": "Two."}]
_PADDING = 4096  # rows of an embedding that no token needs: most that a round number leaves


def check_tokens(tokenizer: Tokenizer, config: ModelConfig, known: Known) -> Iterator[Finding]:
    """Of any tokenizer, and of a known model's. Raises the errors of rendering."""
    yield _vocabulary(tokenizer, config)
    if (became := _changed(tokenizer, PROSE) or _changed(tokenizer, _SAMPLE)) is not None:
        is_wrong = known.judge is not None and _changed(tokenizer, PROSE) is not None
        state: State = "problem" if is_wrong else "note"  # some vocabularies cannot spell everything
        yield Finding("tokenizer", f"text changes when it is encoded and decoded: {became}", state)
    yield _turns(tokenizer, config)
    if known.golden is not None:
        yield from _known_tokens(tokenizer, known.golden, "problem" if known.is_named else "note")


def _vocabulary(tokenizer: Tokenizer, config: ModelConfig) -> Finding:
    """Pieces without a row would end a pass with an error; rows without pieces are another model's."""
    words = f"{tokenizer.vocab_size:,} tokens for {config.vocab_size:,} rows of the embedding"
    if tokenizer.vocab_size > config.vocab_size:
        return Finding("tokenizer", f"{words}, which are too few: it is another model's", "problem")
    if config.vocab_size - tokenizer.vocab_size > max(_PADDING, config.vocab_size // 10):
        return Finding("tokenizer", f"{words}, most of which no token has: it is another model's", "problem")
    return Finding("tokenizer", words)


def _changed(tokenizer: Tokenizer, text: str) -> str | None:
    """Where a text is not what it was after encoding and decoding; None where it is."""
    back = tokenizer.decode(tokenizer.encode(text))
    if back == text:
        return None
    at = next((at for at, (a, b) in enumerate(zip(back, text, strict=False)) if a != b), min(len(back), len(text)))
    around = slice(max(0, at - 10), at + 10)
    return f"{text[around]!r} becomes {back[around]!r}"


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
        return Finding(
            "template", f"a turn ends with {name} ({end}); {_ids(config)}, which is not asked for it", "note"
        )
    begins = 1 if tokenizer.bos_id is None else prompt.count(tokenizer.bos_id)
    if begins != 1:
        return Finding("template", f"a prompt has {begins} BOS ids ({tokenizer.bos_id}); one is right", "note")
    thinking = "inside" if tokenizer.starts_in_thinking(prompt) else "outside"
    return Finding("template", f"a turn ends with {name} ({end}), the EOS; answers begin {thinking} of thinking")


def _ids(config: ModelConfig) -> str:
    return f"eos_token_id of config.json is {', '.join(map(str, config.eos_token_ids)) or 'not set'}"


def _known_tokens(tokenizer: Tokenizer, golden: Golden, state: State) -> Iterator[Finding]:
    """state: of what is wrong."""
    found = tokenizer.encode(golden.text)
    advice = f"the tokenizer is not {golden.name}'s"
    if found != list(golden.text_ids):
        yield Finding(
            "token ids", f"{golden.text!r} has other ids ({_parted(found, golden.text_ids)}): {advice}", state
        )
    wrong, odd = _moved(tokenizer, golden.tokens), _moved(tokenizer, golden.probable_tokens)
    if wrong:
        yield Finding("token ids", f"{wrong}: {advice}", state)
    if odd:
        yield Finding("token ids", f"{odd} (expected, not published)", "note")
    if found == list(golden.text_ids) and not wrong:
        yield Finding("token ids", f"{golden.text!r} and {len(golden.tokens)} control tokens have their known ids")


def _parted(found: Sequence[int], known: Sequence[int]) -> str:
    at = common_length(found, known)
    if at in (len(found), len(known)):
        return f"{len(found)} in place of {len(known)}"
    return f"{found[at]} in place of {known[at]}"


def _moved(tokenizer: Tokenizer, tokens: Mapping[str, int]) -> str:
    """Those that stand elsewhere, in words."""
    found = {name: tokenizer.id_of(name) for name in tokens}
    return ", ".join(
        f"{name} is {'missing' if found[name] is None else found[name]} in place of {id_}"
        for name, id_ in tokens.items()
        if found[name] != id_
    )
