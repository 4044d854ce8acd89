"""How far a value goes that a sentence names: `5 million`, `3 hours 20 minutes`, but `5` of `5 apples`."""

from __future__ import annotations

import re

from zaya_core.answers.units import PARTS, measure_at_start

_EXPLAINING = (  # what follows says why, or of what
    "because|since|as|so|which|that|where|when|whenever|if|for|but|then|after|using|given|while|is|are|at|on|from|once"
    r"|(?:and )?not|rounded|correct|to \S+ (?:decimal|significant)"
)
_END = re.compile(
    r"(?:[.;:!?)=≈]|\*\*|--)(?:[\s*_]|$)|,(?=\s|$)(?! (?:and )?\d+ [a-z])|[*_]+(?:\s|$)|\n|$"
    rf"|[ ,]+–|[ ,]*—|\s=| \((?!\s*mod)|,? (?:{_EXPLAINING})\b"
)
_COUNT = r"(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|hundred|thousand)"
_CHANGING = re.compile(
    rf"\d|[$^π√¼½¾⅓⅔]|\\(?!text|mathrm|%)|\b(?:{PARTS}|pi|root|remainder|infinity|power|mod|modulo)\b"
    rf"|\b(?:out of|over|and|times|plus|minus|by|to|in|percent of|% of) (?:the )?{_COUNT}\b"
    r"|(?<=[ \d])[b-fi-lnopqrt-z](?= |$)"
)
_UNIT = re.compile(r" ?[ap]\. ?m\b|\s*\\(?:text|mathrm)\s*\{[^{}]*\}(?:\^(?:\d|\{\d\}))?")


def end_of_value(text: str, end: int) -> int:
    """Where the value ends whose number ends at `end`.

    Behind its measure, if there is one; behind its clause, if more in that changes the value, such as a second number.
    """
    ending = _END.search(text, end)
    clause = text[end : ending.start() if ending else len(text)].rstrip()
    if _CHANGING.search(re.sub(r"(?:\^|\*\*)\{?\d\}?", "", clause)):
        return end + len(clause)
    if unit := _UNIT.match(clause):
        return end + unit.end()
    return end + len(measure_at_start(clause))
