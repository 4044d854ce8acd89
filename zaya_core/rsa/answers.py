r"""The answer in a text, and its normal form: two texts agree when their normal forms are equal.

Found in this order: the last `\boxed{}`; what follows "answer is" or "answer:" if that is a choice letter or a number;
the last fenced block of code; a choice letter alone on the last line; the last number.
Normal: 0.5 = 1/2 = \frac12, 1,000 = 1000, (B) = B, and spacing never counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

AnswerKind = Literal["boxed", "choice", "number", "code"]

_MOST_DIGITS = 200  # of a number that is taken as one; a longer one is compared as text
_LONGEST = 100_000  # characters at the end of a text in which an answer is looked for

_NUMBER = r"[-+−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|[-+−]?\.\d+"
_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|[{}]")
_STATED = re.compile(
    rf"answer(?:\s+is)?\s*[:=]?\s*[*_$\\(\[]*\s*(?:\(?(?P<choice>[A-HJ])\)?(?![\w'])|(?P<number>{_NUMBER})(?:/(?P<under>\d+))?)",
    re.IGNORECASE,
)
_CODE = re.compile(r"^```[^\n`]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_LONE_CHOICE = re.compile(r"[*_\s]*\(?([A-HJ])[).]?[*_\s.]*")
_LAST_NUMBER = re.compile(rf"(?<![\w.])(?:{_NUMBER})(?:\s*/\s*\d+)?(?![\w])")


@dataclass(frozen=True)
class Answer:
    """An answer as it was written, and its normal form."""

    kind: AnswerKind
    text: str
    normal: str


def find_answer(text: str) -> Answer | None:
    """The answer that a text gives, None where there is none to see."""
    text = text[-_LONGEST:]
    boxed = _last_boxed(text)
    if boxed is not None and (normal := normalise(boxed)):
        return Answer("boxed", boxed.strip(), normal)
    return _stated(text) or _code(text) or _lone_choice(text) or _last_number(text)


def _last_boxed(text: str) -> str | None:
    r"""What the last complete `\boxed{...}` holds; braces inside may be nested."""
    last: tuple[int, int] | None = None
    open_boxes: list[int | None] = []  # where each open brace's content starts, if it is a box
    for match in _BRACE.finditer(text):
        if match[0] != "}":
            open_boxes.append(match.end() if len(match[0]) > 1 else None)
        elif open_boxes and (start := open_boxes.pop()) is not None:
            last = max(last or (0, 0), (start, match.start()))
    return None if last is None else text[slice(*last)]


def _stated(text: str) -> Answer | None:
    matches = [match for match in _STATED.finditer(text) if match["number"] or (match["choice"] or "").isupper()]
    if not matches:
        return None
    last = matches[-1]
    if last["choice"]:
        return Answer("choice", last["choice"], last["choice"])
    number = last["number"] + (f"/{last['under']}" if last["under"] else "")
    return Answer("number", number, normalise(number))


def _code(text: str) -> Answer | None:
    blocks: list[str] = [block for block in _CODE.findall(text) if block.strip()]
    if not blocks:
        return None
    lines = [line.rstrip() for line in blocks[-1].splitlines()]
    return Answer("code", blocks[-1], "\n".join(line for line in lines if line))


def _lone_choice(text: str) -> Answer | None:
    lines = text.strip().splitlines()
    match = _LONE_CHOICE.fullmatch(lines[-1]) if lines else None
    return Answer("choice", match[1], match[1]) if match else None


def _last_number(text: str) -> Answer | None:
    numbers = _LAST_NUMBER.findall(text)
    return Answer("number", numbers[-1], normalise(numbers[-1])) if numbers else None


# --- normal form ------------------------------------------------------------------------------------------------------

_DECORATION = re.compile(
    r"\\(?:left|right|displaystyle|[bB]ig[gl r]?)(?![a-zA-Z])|\\[,;:!> ]|\\(?:quad|qquad)(?![a-zA-Z])|~|\$|\\[()\[\]]"
)
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathit|operatorname|mbox)\s*\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|(\w))\s*(?:\{([^{}]*)\}|(\w))")
_CHOICE = re.compile(r"\(([A-Za-z])\)|([A-Z])[.)]?")
_ASSIGNED = re.compile(r"[A-Za-z]=(?!=)(.+)", re.DOTALL)
_PLAIN = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3})+|\d*)(?:\.(\d*))?")
_RATIO = re.compile(r"(.+)/(.+)|([+-]?)\\frac\{([^{}]+)\}\{([^{}]+)\}")


def normalise(text: str) -> str:
    """The normal form; normalising twice changes nothing more. Empty for an answer without any content."""
    for _ in range(len(text) + 2):  # a pass takes something away, spells something out, or is the last
        before, text = text, _normalise_once(text)
        if text == before:
            break
    return text


def _normalise_once(text: str) -> str:
    text = text.replace("−", "-").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\%", "%")
    text = _WRAPPED.sub(r"\1", _DECORATION.sub("", text))
    text = "".join(text.split()).rstrip(".")
    text = _SHORT_FRACTION.sub(lambda m: rf"\frac{{{m[1] or m[2] or ''}}}{{{m[3] or m[4] or ''}}}", text)
    if text.startswith("{") and text.endswith("}") and text.count("{") == text.count("}") == 1:
        text = text[1:-1]
    if assigned := _ASSIGNED.fullmatch(text):
        text = assigned[1]
    if choice := _CHOICE.fullmatch(text):
        return (choice[1] or choice[2]).upper()
    number = _as_number(text.removesuffix("%"))
    if number is not None:
        return str(number)
    return text.casefold() if len(text) > 1 and text.isalpha() else text


def _as_number(text: str) -> Fraction | None:
    if len(text) > _MOST_DIGITS or not text.isascii():
        return None
    if ratio := _RATIO.fullmatch(text):
        sign, upper, lower = ratio[3] or "", ratio[1] or ratio[4], ratio[2] or ratio[5]
        numerator, denominator = _as_plain(upper), _as_plain(lower)
        if numerator is None or not denominator:
            return None
        return numerator / denominator * (-1 if sign == "-" else 1)
    return _as_plain(text)


def _as_plain(text: str) -> Fraction | None:
    match = _PLAIN.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        return None
    sign, whole, decimals = match[1], match[2].replace(",", "") or "0", match[3] or ""
    value = Fraction(int(whole + decimals), 10 ** len(decimals))
    return -value if sign == "-" else value
