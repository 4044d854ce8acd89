"""The field `rsa` of a chat: true, a number of candidates, or an object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from zaya_cli.serve.protocol.errors import bad_field
from zaya_cli.serve.protocol.fields import Rule, an_object, flag, number, one_of, read_fields, shown, whole
from zaya_core.rsa.params import MOST, RsaParams, Select
from zaya_core.whole_numbers import is_number

_MOST_CANDIDATES = 128  # four times the widest preset's; all of a round's prompts are held at once
_MOST_ROUNDS = 64
_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "candidates": whole(1, _MOST_CANDIDATES),
        "rounds": whole(0, _MOST_ROUNDS),
        "subset": whole(1, _MOST_CANDIDATES),
        "think": whole(1, MOST),
        "tail": whole(1, MOST),
        "answer": whole(1, MOST),
        "select": one_of(get_args(Select)),
        "stop_at": number(0, 1),
        "progress": flag,
    }
)
_ALIASES = MappingProxyType(
    {
        "n": "candidates",
        "k": "subset",
        "t": "rounds",
        "tail_tokens": "tail",
        "think_budget": "think",
        "selection": "select",
    }
)


@dataclass(frozen=True)
class RsaField:
    """changes: of `RsaParams`, by its names. has_progress: whether chunks tell how far the run is."""

    changes: Mapping[str, Any]
    has_progress: bool = False

    def params(self, base: RsaParams) -> RsaParams:
        """What is to be done, `base` where nothing is said."""
        return RsaParams(**{**vars(base), **self.changes})


def is_wanted(body: Mapping[str, Any]) -> bool:
    """Whether a body asks for RSA; false is a way of saying no."""
    value = body.get("rsa")
    return value is not None and value is not False


def rsa_field(name: str, value: Any) -> RsaField:
    """See `Rule`."""
    if value is True:
        return RsaField({})
    if is_number(value):
        return RsaField({"candidates": _RULES["candidates"](name, value)})
    if not isinstance(value, dict):
        raise bad_field(name, f"is {shown(value)}; it must be true, a number of candidates or an object.")
    given = _by_own_names(name, an_object(name, value))
    if given.get("stop_at") == 0:
        raise bad_field(f"{name}.stop_at", "is 0; it must be above 0: 0.75 is three quarters.")
    return RsaField(given, given.pop("progress", False))


def _by_own_names(outer: str, value: dict[str, Any]) -> dict[str, Any]:
    """Checked fields, each under one name. Raises ApiError, also for what is not known: it would change the answer."""
    known = {**_RULES, **{alias: _RULES[name] for alias, name in _ALIASES.items()}}
    for name in value:
        if name not in known:
            raise bad_field(f"{outer}.{name[:40]}", f"is not known; {', '.join(_RULES)} are.")
    named = {f"{outer}.{name}": one for name, one in value.items()}
    given: dict[str, Any] = {}
    for full, one in read_fields(named, {f"{outer}.{name}": rule for name, rule in known.items()}).items():
        name = full.removeprefix(f"{outer}.")
        own = _ALIASES.get(name, name)
        if own in given:
            raise bad_field(full, f"says the same as {outer}.{own}: give one of them.")
        given[own] = one
    return given
