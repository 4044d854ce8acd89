r"""The form of an answer that is written as people and models write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from zaya_core.answers.forms import Choice, Form, Formula, Interval, Matrix, Named, Number, Several, Union, Words
from zaya_core.answers.rationals import THOUSANDS, rational
from zaya_core.answers.spelling import spelled
from zaya_core.answers.units import without_unit

_LONGEST = 1000  # characters that are read as mathematics or a choice; more are compared as text
_DEEPEST = 10  # nested brackets
_MOST_SIGNS = 3  # of \pm in one item

_OPENING, _CLOSING = "([{", ")]}"
_CHOICE = re.compile(r"(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer) )?(?:\(([A-Ja-h])\)|\[([A-J])\]|([A-J])[).]?|([a-d])[).]?)")
_CHOICE_AND_TEXT = re.compile(
    r"(?:\(([A-Ja-h])\) ?(?![-+*/^_=<>(|,;]|\\(?:cdot|le|ge|ne|in|cup|cap|to)\b)"
    r"|([A-Ja-h])[).:] ?(?!\d\))"
    r"| ?([A-J]) - (?=\\text))(?=.)"
)
_ROMAN = re.compile(r"\((?:i{1,3}|i?v|vi{1,3}|ix)\)")
_WORDS = re.compile(r"(?=.*[^\W\d_]{2})[^\W\d_](?:[^\W\d_]|[ '.,&/-])*")
_COUNTED = re.compile(
    r"(?=.*\d [a-zA-Z]{2}.* [-+]?\d)(?:(?:[-+]?\d[\d.,/:]*|[a-zA-Z]{2,})(?: |$))+"
)  # 3 hours 20 minutes
_SHORT_WORDS = {"yes", "no", "odd", "even", "one", "two", "all", "day", "may", "red", "tie", "six", "ten", "sun", "mon"}
_CLOCK = re.compile(r"0?(\d{1,2}):(\d\d)(?: ?(?:\\text\{ ?)?([ap])\.? ?m\.?(?: ?\})?)?", re.IGNORECASE)
_MATRIX = re.compile(r"[(\[|]? ?\\begin\{([pbvVB]?(?:small)?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\} ?[)\]|]?")
_RELATION = re.compile(r"\\(?:le|ge|ne|in|approx)(?![a-zA-Z])|(?<!\\)[=<>]")
_NAME = re.compile(
    r"(?:[A-Za-z]|\\[a-zA-Z]+|\\(?:overline|vec|hat|angle|triangle|mathbb|widehat) ?\{?[A-Za-z]+\}?|[A-Z]{2,3})'*"
    r"(?:_ ?(?:\{[^{}]*\}|\w))?(?: ?\^ ?\{-1\})?(?: ?\( ?[\w, ]{1,9}\))?"
    r"|m? ?\\angle ?\{?[A-Z]{1,3}\}?|\( ?[a-z](?: ?, ?[a-z])+ ?\)"
    r"|[a-zA-Z](?: ?\+ ?[a-zA-Z])+|\|[A-Z]{2}\||\\text\{[^{}]*\}"
)
_REALS = Interval("()", (Formula(r"-\infty"), Formula(r"\infty")))


@lru_cache(maxsize=256)
def form(text: str) -> Form:
    """The form of any text; `Words` with it, where it is nothing else. Never raises."""
    if len(text) > _LONGEST or _depth(text) > _DEEPEST:
        return Words("".join(text.split()))
    tex = _unbraced(re.sub(r"^(?:\\text\{[^{}]*:\}|[Aa]nswer:) ?", "", spelled(text)))
    return _choice(tex) or _read(tex)


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in _OPENING) - (character in _CLOSING)
        deepest = max(deepest, depth)
    return deepest


def _choice(tex: str) -> Form | None:
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", tex).strip()
    if _ROMAN.fullmatch(plain):
        return Words(plain)
    if (match := _CHOICE.fullmatch(plain)) and plain not in "ij":
        return Choice(next(filter(None, match.groups())).upper())
    match = _CHOICE_AND_TEXT.match(re.sub(r"\\text\{ ?(\(?[A-Ja-h][).:]) ?", r"\1 \\text{", tex, count=1))
    if match is None or re.search(r"\([b-j]\)|(?<![a-z])[b-j]\)", tex[match.end() :], re.IGNORECASE):
        return None
    return Choice(next(filter(None, match.groups())).upper())


# --- several ----------------------------------------------------------------------------------------------------------


def _read(tex: str) -> Form:
    tex = _unbraced(tex.strip(" ,;"))
    tex = re.sub(r"\\equiv(?![a-zA-Z])", "=", tex) if r"\pmod" in tex else tex
    tex = re.sub(rf"\]({_ENDS})(?=[\[\]])", r"(\1", tex)  # ]1, 2[ is (1, 2)
    tex = re.sub(rf"([\[(]{_ENDS})\[(?= ?(?:$|\\cup|,))", r"\1)", tex)
    if not re.search(r"[(\[{]", tex):
        tex = re.sub(rf"(?<![\d.,])(?:{THOUSANDS})", lambda match: re.sub("[ ,]", "", match[0]), tex)
    elif _depth(tex) and (tex[:1] not in _OPENING or ", " in tex):
        tex = re.sub(rf"(?<![\d.,])(?:{THOUSANDS})", lambda match: re.sub(",", "", match[0]), tex)
    if re.fullmatch(r"\d+(?: ?: ?\d+){1,3}", tex) and not _CLOCK.fullmatch(tex):
        return Words(_compact(tex))
    if _REALS_WORDS.fullmatch(tex):
        return _REALS
    if clock := _CLOCK.fullmatch(tex):
        return Words(f"{clock[1]}:{clock[2]}{(clock[3] or '').lower()}")
    items = [one for item in _split(tex, _SEPARATOR) for one in _both_signs(item)]
    if len(items) > 1:
        return _several(items, is_either=re.search(r"(?<![a-zA-Z\\])or(?![a-zA-Z])", tex) is not None)
    return _relation(items[0]) if items else Words("")


_ENDS = r"[^\[\](),;]+[,;][^\[\](),;]+"
_REALS_WORDS = re.compile(r"(?:\\text\{)?(?:all real numbers?|all reals|\\mathbb\{R\})\}?", re.IGNORECASE)
_SEPARATOR = re.compile(r"[,;]|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])")


def _unbraced(tex: str) -> str:
    while tex[:1] == "{" and _end_of_group(tex, 0) == len(tex) - 1:
        tex = tex[1:-1].strip(" ,;")
    return tex


def _end_of_group(tex: str, start: int) -> int:
    """Where the bracket at `start` is closed, by whichever kind; -1 if nowhere."""
    depth = 0
    for position in range(start, len(tex)):
        depth += (tex[position] in _OPENING) - (tex[position] in _CLOSING)
        if depth == 0:
            return position
    return -1


def _split(tex: str, separator: re.Pattern[str]) -> list[str]:
    """The parts between the separators that lie outside of all brackets and environments, without empty ones."""
    parts, start = [], 0
    depths = _depths(tex)
    for match in separator.finditer(tex):
        if depths[match.start()] == 0:
            parts.append(tex[start : match.start()])
            start = match.end()
    return [part.strip() for part in (*parts, tex[start:]) if part.strip()]


def _depths(tex: str) -> list[int]:
    depths, depth = [], 0
    for position, character in enumerate(tex):
        depth += (character in _OPENING) - (character in _CLOSING)
        depth += tex.startswith("\\begin", position) - tex.startswith("\\end", position)
        depths.append(max(0, depth))
    return depths


def _both_signs(item: str) -> Iterator[str]:
    r"""`1 \pm \sqrt{2}` is two answers; `\mp` has the other sign than the last `\pm`."""
    if r"\pm" not in item or item.startswith(r"\{") or item.count(r"\pm") > _MOST_SIGNS:
        yield item
        return
    before, _, after = item.partition(r"\pm")
    for sign, other in (("+", "-"), ("-", "+")):
        plus = before.rstrip() if sign == "+" and not re.search(r"[\w)}]$", before.rstrip()) else before + sign
        yield from _both_signs(plus + after.replace(r"\mp", other, 1))


def _several(items: list[str], is_either: bool) -> Form:
    forms = [_relation(item) for item in items]
    if all(one == forms[0] for one in forms):
        return forms[0]
    names = {one.name for one in forms if isinstance(one, Named)}
    first = forms[0]
    parts = [one.value for one in forms if isinstance(one, Named) and isinstance(one.value, Interval)]
    if isinstance(first, Named) and len(names) == 1 and is_either and len(parts) == len(forms):
        return Named(first.name, Union(tuple(parts)), "")
    if isinstance(first, Named) and len(names) == 1 and not isinstance(first.value, Interval):
        values = tuple(one.value if isinstance(one, Named) else one for one in forms)
        return Named(first.name, Several("list", values), "")
    if all(isinstance(one, Words) for one in forms):
        return Several("list", tuple(Words(re.sub(r"^and |^or ", "", str(one))) for one in forms))
    return Several("list", tuple(_with_unit_of_last(forms)))


def _with_unit_of_last(forms: list[Form]) -> list[Form]:
    """`3, 4 cm`: the unit is of both."""
    last = forms[-1]
    if isinstance(last, Number) and last.unit and all(isinstance(one, Number) and not one.unit for one in forms[:-1]):
        return [Number(one.value, last.unit) if isinstance(one, Number) else one for one in forms]
    return forms


# --- relations --------------------------------------------------------------------------------------------------------


def _relation(tex: str) -> Form:
    sides = _split(tex, _RELATION)
    depths = _depths(tex)
    signs = [match[0] for match in _RELATION.finditer(tex) if depths[match.start()] == 0]
    if not signs or not sides:
        return _value(tex)
    if signs[-1] == r"\approx":
        is_named = len(signs) == 1 and len(sides) == 2 and _name(sides[0]) and sides[0] not in ("e", r"\pi")
        if is_named:
            return Named(_compact(sides[0]), _value(sides[1]), "")
        return _relation(tex[: tex.rindex(r"\approx")] if len(sides) == len(signs) + 1 else sides[-1])
    if len(sides) != len(signs) + 1:
        return _value(sides[0]) if len(signs) == 1 and signs[0] in ("=", r"\in") else Formula(_compact(tex))
    if all(sign == "=" for sign in signs):
        return _equation(sides, tex)
    if signs == [r"\ne"]:
        return Formula(r"\ne ".join(sorted(map(_compact, sides))))
    if signs == [r"\in"]:
        return Named(_name(sides[0]) or _compact(sides[0]), _read(sides[1]), "")
    return _inequality(sides, signs, _compact(tex)) or Formula(_compact(tex))


def _name(side: str) -> str | None:
    if not _NAME.fullmatch(side):
        return None
    return re.sub(r"\\text\{([^{}]*)\}", lambda match: match[1].casefold(), _compact(side)).strip("|")


def _equation(sides: list[str], tex: str) -> Form:
    first, last = _name(sides[0]), _name(sides[-1])
    tex = _compact(f"{sides[0]}={sides[-1]}")
    if first is not None:
        return Named(first, _value(sides[-1]), tex)
    if last is not None and not _letters(sides[0]):
        return Named(last, _value(sides[0]), tex)
    if not _letters("".join(sides)):
        return _value(sides[-1])
    return Formula(tex)


def _letters(tex: str) -> str:
    return Formula(re.sub(r"\\text\{[^{}]*\}|(?<![A-Za-z])[ei](?![A-Za-z])", "", tex)).letters


def _inequality(sides: list[str], signs: list[str], tex: str) -> Form | None:
    r"""`1 < x \le 3` as the interval of x; None for what is none."""
    upward = [sign in ("<", r"\le") for sign in signs]
    if any(sign in ("=", r"\ne", r"\in") for sign in signs) or len(set(upward)) != 1 or len(signs) > 2:
        return None
    if not upward[0]:
        sides, signs = sides[::-1], signs[::-1]
    if len(signs) == 1:
        is_upper = _name(sides[0]) is not None and not _letters(sides[1])
        sides = [r"-\infty", *sides] if is_upper else [*sides, r"\infty"]
        signs = ["<", *signs] if is_upper else [*signs, "<"]
    name = _name(sides[1])
    if name is None or _letters(sides[0] + sides[2]):
        return None
    brackets = ("[" if "e" in signs[0] else "(") + ("]" if "e" in signs[1] else ")")
    return Named(name, Interval(brackets, (_value(sides[0]), _value(sides[2]))), tex)


# --- one value --------------------------------------------------------------------------------------------------------


def _value(tex: str) -> Form:
    tex = _unbraced(tex.strip())
    for read in (_matrix, _union, _bracketed):
        found = read(tex)
        if found is not None:
            return found
    value, unit = without_unit(tex)
    number = rational(value)
    if number is not None:
        return Number(number, unit)
    if (words := _words(tex)) is not None:
        return words
    if unit and value and value[:1] in _OPENING and _end_of_group(value, 0) == len(value) - 1:
        return _value(value)
    return Formula(_compact(value or tex), unit)


def _words(tex: str) -> Words | None:
    plain = " ".join(re.sub(r"\\text\{([^{}]*)\}", r" \1 ", tex).split())
    if _COUNTED.fullmatch(plain):
        return Words(plain.casefold())
    if not _WORDS.fullmatch(plain) or (len(plain) == 1 and plain == tex):
        return None
    is_short = plain == tex and plain.isascii() and len(plain) < 4 and plain.casefold() not in _SHORT_WORDS
    if is_short and not (plain.istitle() and len(plain) == 3):
        return None  # a product of variables, or a chemical symbol
    return Words(re.sub(r"^(?:the|an?) ", "", plain.casefold()).strip(" .,"))


def _matrix(tex: str) -> Form | None:
    match = _MATRIX.fullmatch(tex)
    if match is None:
        return None
    rows = [row.split("&") for row in re.split(r"\\\\(?:\[[^\]]*\])?", match[2]) if row.strip()]
    bars = match[1][0] in "vV" or (tex[0] == "|" and tex[-1] == "|")
    return Matrix(tuple(tuple(_value(cell) for cell in row) for row in rows), bars)


def _union(tex: str) -> Form | None:
    parts = _split(tex, re.compile(r"\\cup(?![a-zA-Z])"))
    return Union(tuple(map(_value, parts))) if len(parts) > 1 else None


def _bracketed(tex: str) -> Form | None:
    r"""`(1,2)`, `[1,2)`, `]1,2[`, `\{1,2\}`; one item in round brackets is itself."""
    is_set = tex.startswith(r"\{") and tex.endswith(r"\}")
    inner = tex[2:-2] if is_set else tex[1:-1]
    opening, closing = tex[:1], tex[-1:]
    if not is_set and (opening not in "([]" or closing not in ")][" or len(tex) < 2):
        return None
    if not is_set and _end_of_group(tex, 0) != len(tex) - 1:
        return None
    if re.search(r"(?<!,)(?<!\d)\d{1,3}(?:,0\d\d)+(?!\d)", inner):  # 10,000 is no pair
        inner = re.sub(rf"(?<![\d.,])(?:{THOUSANDS})", lambda match: match[0].replace(",", ""), inner)
    items = [one for item in _split(inner, re.compile("[,;]")) for one in _both_signs(item)]
    if is_set:
        return _set(inner, items)
    is_interval = "[" in opening + closing or "]" in opening + closing
    if len(items) == 2 and is_interval:
        brackets = ("[" if opening == "[" else "(") + ("]" if closing == "]" else ")")
        return Interval(brackets, (_relation(items[0]), _relation(items[1])))
    if len(items) > 1:
        return Several("tuple", tuple(map(_relation, items)))
    return _relation(items[0]) if items and opening + closing == "()" and not is_interval else None


def _set(inner: str, items: list[str]) -> Form:
    if not items:
        return Formula(r"\emptyset")
    if re.search(r"(?<!\|)[|:](?!.*\|)", inner) and _RELATION.search(inner):
        return _relation(re.split(r"[|:]", inner, maxsplit=1)[1].strip())  # {x : x > 3} is x > 3
    if len(items) == 1:
        return _relation(items[0])
    return Several("set", tuple(map(_relation, items)))


def _compact(tex: str) -> str:
    r"""Without the spaces that mean nothing: all but the one between a command and a letter."""
    return re.sub(r"(\\[a-zA-Z]+) (?=[a-zA-Z])|\s+", lambda match: f"{match[1]} " if match[1] else "", tex)
