"""Fields that say how tokens are chosen, the same for chats and completions."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zaya_cli.serve.protocol.errors import bad_field
from zaya_cli.serve.protocol.fields import Rule, an_object, number, shown, whole
from zaya_core.engine.request import MAX_BIAS, MAX_STOP_CHARACTERS
from zaya_core.sampling.params import SamplingParams
from zaya_core.whole_numbers import is_number

MAX_STOPS = 16
MAX_BIASES = 1024  # each is looked at for each token, while all others wait
_SEED_BITS = 53  # a number in JavaScript holds no more, and the seed is told to the client
_RANDOM_SEED = -1  # llama.cpp's and vLLM's way of writing it

SAMPLING: dict[str, Rule] = {
    "temperature": number(0, 1e6),
    "top_p": number(0, 1),
    "top_k": whole(-1),
    "min_p": number(0, 0.999999),
    "repetition_penalty": number(0.01, 100),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "seed": whole(_RANDOM_SEED, (1 << 64) - 1),
}


def sampling_params(fields: Mapping[str, Any], defaults: SamplingParams) -> SamplingParams:
    """The fields over the model's own defaults, with a random seed where none was given."""
    given = {name: fields[name] for name in SAMPLING if name in fields}
    given["top_k"] = max(0, given.get("top_k", defaults.top_k))  # -1 is vLLM's way of writing "off"
    if given.get("seed", _RANDOM_SEED) == _RANDOM_SEED:
        given["seed"] = secrets.randbits(_SEED_BITS)
    return replace(defaults, **given)


def stop_texts(name: str, value: Any) -> tuple[str, ...]:
    """One text or several; empty ones stop nothing."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise bad_field(name, f"is {shown(value)}; it must be a text or a list of texts.")
    texts = [text for text in texts if text]
    if len(texts) > MAX_STOPS:
        raise bad_field(name, f"has {len(texts):,} texts; {MAX_STOPS} is the most.")
    if any(len(text) > MAX_STOP_CHARACTERS for text in texts):
        raise bad_field(name, f"has a text of more than {MAX_STOP_CHARACTERS:,} characters.")
    return tuple(texts)


def logit_bias(vocab_size: int) -> Rule:
    """What is added to the logits of tokens, by id."""

    def read(name: str, value: Any) -> dict[int, float]:
        biases = an_object(name, value)
        if len(biases) > MAX_BIASES:
            raise bad_field(name, f"has {len(biases):,} tokens; {MAX_BIASES:,} is the most.")
        return dict(_bias(name, key, bias, vocab_size) for key, bias in biases.items())

    return read


def _bias(name: str, key: str, bias: Any, vocab_size: int) -> tuple[int, float]:
    id_ = int(key) if key.isdecimal() and len(key) < 10 else vocab_size
    if id_ >= vocab_size:
        raise bad_field(name, f"names the token {shown(key)}; ids are from 0 to {vocab_size - 1:,}.")
    if not is_number(bias) or not -MAX_BIAS <= bias <= MAX_BIAS:
        raise bad_field(name, f"of token {id_} is {shown(bias)}; it must be a number from -100 to 100.")
    return id_, float(bias)
