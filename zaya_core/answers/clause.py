"""How far a value goes that a sentence names: `5 million`, `3 hours 20 minutes`, `7 remainder 3`, but `5` of `5 apples`."""

from __future__ import annotations

import re

from zaya_core.answers.units import PARTS, measure_at_start

_END = re.compile(
    r"(?:[.;:!?)=≈]|\*\*|--)(?:[\s*_]|$)|,(?=\s|$)(?! (?:and )?\d+ [a-z])|\n|$|[ ,]*[–—]| \((?!\s*mod)|\s=|[*_]+(?:\s|$)"
    r"|,? (?:because|since|as|so|which|that|where|when|whenever|if|for|but|then|after|using|given|while|is|are|at|on|from)\b",
)
_COUNT = r"(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|hundred|thousand)"
_CHANGING = re.compile(
    rf"\d|[$^π√¼½¾⅓⅔]|\\(?!text|mathrm|%)|\b(?:{PARTS}|pi|root|factorial|remainder|infinity|power|mod|modulo)\b"
    rf"|\b(?:out of|over|and|times|plus|minus|by|to|in|percent of|% of) (?:the )?{_COUNT}\b"
    r"|(?<=[ \d])[b-fi-lnopqrt-z](?= |$)"
)
_TEX_UNIT = re.compile(r"\s*\\(?:text|mathrm)\s*\{[^{}]*\}(?:\^(?:\d|\{\d\}))?")


def end_of_value(text: str, end: int) -> int:
    """Where the value ends whose number ends at `end`.

    Behind its measure, if there is one; behind its clause, if more in that changes the value, such as a second number.
    """
    ending = _END.search(text, end)
    clause = text[end : ending.start() if ending else len(text)].rstrip()
    if _CHANGING.search(re.sub(r"(?:\^|\*\*)\{?\d\}?", "", clause)):
        return end + len(clause)
    if unit := _TEX_UNIT.match(clause):
        return end + unit.end()
    return end + len(measure_at_start(clause))
