r"""The answer in a text: where one is given, and none where there are only words and numbers.

Looked for in this order: the last `\boxed{}`, with those it is joined to by "and", "or" or a comma; what an
"answer is" or "answer:" is followed by; the last fenced block of code; what the last line comes to, if it is but a
letter, a value or a formula, or draws a conclusion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from zaya_core.answers.clause import end_of_value
from zaya_core.answers.comparison import same_answer
from zaya_core.answers.forms import Choice, Number, Words
from zaya_core.answers.reading import form
from zaya_core.answers.units import without_unit

AnswerKind = Literal["boxed", "choice", "number", "math", "words", "code"]

_LONGEST = 100_000  # characters at the end of a text in which an answer is looked for
_LONGEST_END = 20_000  # characters at the end in which sentences are read
_MOST_STATEMENTS = 20  # that are looked at, from the last on
_MOST_BOXES = 20  # that may be one answer
_LONGEST_STATED = 300  # characters behind "answer is" that are looked at


@dataclass(frozen=True)
class Answer:
    """An answer as it was written, and its normal form as text."""

    kind: AnswerKind
    text: str
    normal: str

    def agrees_with(self, other: Answer) -> bool:
        """Whether both are the same answer; code is the same line by line."""
        if "code" in (self.kind, other.kind):
            return self.normal == other.normal
        return same_answer(self.text, other.text)


@lru_cache(maxsize=64)
def find_answer(text: str) -> Answer | None:
    """The answer that a text gives, None where there is none to see. In time linear in the text."""
    text = text[-_LONGEST:]
    boxed, text = _boxed(text)
    if boxed is not None:
        return Answer("boxed", boxed, str(form(boxed)))
    return _stated(text[-_LONGEST_END:]) or _code(text) or _concluded(text[-_LONGEST_END:])


# --- boxes ------------------------------------------------------------------------------------------------------------

_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}]|[{}]")
_UNBRACED_BOX = re.compile(r"\\boxed\s+(\w+)(?=\s|\$|[.,;]|$)")
_JOINED = re.compile(r"(?:[\s$,;&]|\\[()\[\],;: ]|\\q?quad|\\text\s*\{\s*(?:and|or)\s*\}|\band\b|\bor\b|\b[a-z]\s*=)*")


def _boxed(text: str) -> tuple[str | None, str]:
    """What the last complete boxes hold; and the text without an unfinished box and what follows it."""
    boxes, unfinished = _boxes(text)
    if not boxes:
        lone = list(_UNBRACED_BOX.finditer(text))
        return (lone[-1][1], text) if lone else (None, text[:unfinished])
    found = [boxes[-1]]
    for box in boxes[-2 : -_MOST_BOXES - 1 : -1]:
        between = text[box[1] + 1 : found[0][0]].rpartition("\\")[0]
        if not between.strip(" $") or not _JOINED.fullmatch(between):
            break
        found.insert(0, box)
    contents = list(dict.fromkeys(text[start:end].strip() for start, end in found))
    return ", ".join(contents), text


def _boxes(text: str) -> tuple[list[tuple[int, int]], int | None]:
    """Where the contents of outermost boxes that hold anything lie; and where an unfinished box begins."""
    boxes: list[tuple[int, int]] = []
    if r"\boxed" not in text and r"\fbox" not in text:
        return boxes, None
    open_braces: list[tuple[int, int | None]] = []  # where each begins, and where its content does if it is a box
    for match in _BRACE.finditer(text):
        if match[0] in (r"\{", r"\}"):
            continue
        if match[0] != "}":
            open_braces.append((match.start(), match.end() if len(match[0]) > 1 else None))
        elif open_braces and (start := open_braces.pop()[1]) is not None and text[start : match.start()].strip():
            while boxes and boxes[-1][0] > start:
                boxes.pop()
            boxes.append((start, match.start()))
    return boxes, next((begin for begin, content in open_braces if content is not None), None)


# --- statements -------------------------------------------------------------------------------------------------------

_FILLER = r"(?:therefore|thus|then|hence|indeed|simply|just|exactly|clearly|approximately|about|given by|option|choice)"
_STATEMENT = re.compile(
    r"\b(?:(?:answer|solution)s?|(?:correct|right|best) (?:option|choice))"
    r"(?: (?:to|for) [^.\n:]{0,60}?|, [^.\n,]{1,40},)?[*_]{0,2}"
    rf"(?: {_FILLER},?)?"
    r"(?: +(?:is|are|was|will be|must be|should be|equals|comes to|of)\b[*_]{0,2}(?:[ \t]*:)?|[ \t]*[:=])"
    rf"[*_]{{0,2}}\s*(?:{_FILLER}\b[,:]?\s*)*",
    re.IGNORECASE,
)
_NAMED_OPTION = re.compile(
    r"\b(?:[Oo]ption|[Cc]hoice) \(?([A-J])\)? (?:is|must be) (?:the )?(?:correct|right|best|answer)\b"
)
_MATHS = re.compile(
    r"\$\$([^$]{1,300})\$\$|(?<!\\)\$((?:\\\$|[^$\n]){1,300}?)(?<!\\)\$(?!\d)|\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\]",
    re.DOTALL,
)
_NUMBER = (
    r"(?:\d{1,2}:\d\d(?: ?[apAP]\.?[mM]\b\.?)?"
    r"|[-+−]? ?(?:\\?\$|€|£)? ?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?"
    r"(?:\s+\d+\s*/\s*\d+|\s*/\s*\d+| ?[¼½¾⅓⅔⅛])?(?:\s*(?:\\?%|°|percent\b))?|[-+−]?\.\d+|[-+−]?[¼½¾⅓⅔⅛])"
)
_STATED_CHOICE = re.compile(
    r"\(?(?P<choice>[A-Ja-h])\)|(?P<letter>[A-J])(?![\w(=+/^*-]|'\w| [-+=*/^<>])"
    r"(?! (?!because|since|as |is |and |or |which|for )[a-z])"
)
_STATED_NUMBER = re.compile(
    rf"{_NUMBER}(?![\w^({{:]|[.,]\d|\s*\\(?!text|mathrm|%)[a-z]|[-+*/=×·]\S|\s*[-+*/=×·÷^<>√π]\s*[\w(\\])"
)
_STATED_BRACKETS = re.compile(
    r"(?:\\left)?(?:\\\{|[(\[{])[^()\[\]{}\n]{1,120}(?:\\right)?(?:\\\}|[)\]}])(?!\s*[-+*/=^])"
)
_STATED_WORD = re.compile(r"\"?(?:yes|no|true|false|none|odd|even)\b\"?(?=\s*(?:[.,;!\n]|$))", re.IGNORECASE)
_BOLD = re.compile(r"(\*\*|__)((?:(?!\1)[^\n]){1,120})\1")
_LABEL = re.compile(
    r"[ \t*_#>]*(?:the )?(?:final )?answer[*_]*[ \t]*:[ \t]*[*_]*[ \t]*"
    r"(?P<words>[^\W\d_][\w'’-]*(?: [^\W\d_][\w'’-]*){0,3})[*_. \t]*",
    re.IGNORECASE,
)
_NUMBER_IN_MATHS = re.compile(rf"\$({_NUMBER})\$(?!\d)|\\\(({_NUMBER})\\\)")
_NEXT_IN_LIST = re.compile(
    rf"\s*(?:, and |, or |, |; | and | or )(?=[a-zA-Z]{{1,2}}(?:_\w+)? ?[=<>≤≥]|(?:{_NUMBER})[\s.,;]|(?:{_NUMBER})$)"
)
_FORMULA = re.compile(
    r"(?=[^\n]*?(?:[\\^=_/*+√π×·<>≤≥-]|\d[a-z]))"
    r"(?:\\[a-zA-Z]+|(?<![a-zA-Z])[a-zA-Z]{1,2}(?![a-zA-Z'])|\d"
    r"|[ (){}\[\]^_+*/=.,|!<>√π×·−∞≤≥±-]|\\[ ,;{}]|\\text\{[^{}]*\})+"
)


def _stated(text: str) -> Answer | None:
    """The last statement that an answer can be seen in."""
    for match in list(_STATEMENT.finditer(text))[: -_MOST_STATEMENTS - 1 : -1]:
        found = _value_at_start(text[match.end() : match.end() + _LONGEST_STATED].lstrip())
        if found is not None:
            return found
    options = _NAMED_OPTION.findall(text)
    if options:
        return _answer("choice", options[-1])
    labels = [label["words"] for line in text.splitlines() if (label := _LABEL.fullmatch(line))]
    return _answer("words", labels[-1]) if labels else None


def _value_at_start(text: str) -> Answer | None:
    """The answer with which a text begins."""
    if bold := _BOLD.match(text):
        if not re.fullmatch(_NUMBER, bold[2]):
            return _value_at_start(bold[2]) or _answer("words", bold[2])
        text = bold[2] + text[bold.end() :]  # **5** million
    text = re.sub(r"\*\*(?![\w(])|^['\"“‘`]", " ", text).lstrip()
    if maths := _MATHS.match(text):
        joined = _joined_maths(text, maths)
        if joined != _inside(maths) or not re.fullmatch(_NUMBER, joined):
            return _answer("math", joined)
        text = _NUMBER_IN_MATHS.sub(r"\1\2", text)  # $5$ million
    if choice := _STATED_CHOICE.match(text):
        return _answer("choice", (choice["choice"] or choice["letter"]).upper())
    for kind, pattern in _STATED:
        if stated := pattern.match(text):
            return _answer(kind, _LISTS[kind](text, stated))
    return _stated_formula(text)


_STATED: tuple[tuple[AnswerKind, re.Pattern[str]], ...] = (
    ("number", _STATED_NUMBER),
    ("math", _STATED_BRACKETS),
    ("words", _STATED_WORD),
)


def _alone(text: str, match: re.Match[str]) -> str:
    return match[0]


def _list_of_brackets(text: str, match: re.Match[str]) -> str:
    """`(1, 2) and (3, 4)` as a whole."""
    end = match.end()
    while more := re.compile(r"(?:,? (?:and|or) |, )").match(text, end):
        following = _STATED_BRACKETS.match(text, more.end())
        if following is None:
            break
        end = following.end()
    return text[match.start() : end]


def _list_of_numbers(text: str, match: re.Match[str]) -> str:
    """`2, 3 and 5` and `5 million` as a whole; nouns are left out."""
    end = match.end()
    while more := re.compile(rf"(?:, and |, or |, | and | or )(?={_NUMBER})").match(text, end):
        number = re.compile(_NUMBER).match(text, more.end())
        if number is None or not re.match(r"[\s.,;]|$", text[number.end() :]):
            break
        end = number.end()
    return text[match.start() : end_of_value(text, end)]


_LISTS = {"number": _list_of_numbers, "math": _list_of_brackets, "words": _alone}


def _joined_maths(text: str, first: re.Match[str]) -> str:
    r"""`$2$ and $3$` as a list."""
    parts, end = [_inside(first)], first.end()
    while more := re.compile(r"\s*(?:,|and|or|, and|, or)\s*(?=\$|\\\()").match(text, end):
        following = _MATHS.match(text, more.end())
        if following is None:
            break
        parts.append(_inside(following))
        end = following.end()
    return ", ".join(parts)


def _inside(maths: re.Match[str]) -> str:
    return next(filter(None, maths.groups())).strip()


def _stated_formula(text: str) -> Answer | None:
    """A formula, and those of its list: `x = 3, y = 4`, `x = 1 or 2`."""
    text = _NUMBER_IN_MATHS.sub(r"\1\2", text)
    end = _end_of_formula(text, 0)
    while end and "=" in text[:end] and (more := _NEXT_IN_LIST.match(text, end)):
        end = _end_of_formula(text, more.end())
    found = text[:end].strip()
    if found.endswith("="):
        return None
    return _answer("math", found) if re.search(r"\d|\\[a-z]|[a-z]", found) and len(found) > 1 else None


def _end_of_formula(text: str, start: int) -> int:
    """Where the formula at `start` ends, or the plain number; `start` for neither."""
    found = _FORMULA.match(text, start) or re.compile(_NUMBER).match(text, start)
    if found is None:
        return start
    lead = len(found[0]) - len(found[0].lstrip())
    first = re.split(r"[.;,](?:\s|$)|\n", found[0].strip(), maxsplit=1)[0].strip()
    end = start + lead + len(first)
    is_number = re.search(r"(?:^|=)\s*\S*\d$", first) and not _NEXT_IN_LIST.match(text, end)
    return end_of_value(text, end) if is_number else end


def _answer(kind: AnswerKind, text: str) -> Answer | None:
    text = text.strip()
    read = form(text)
    if isinstance(read, Choice):
        kind = "choice"
    elif isinstance(read, Number):
        kind = "number"
    elif isinstance(read, Words) and kind == "number":
        kind = "words"
    return Answer(kind, text, str(read)) if str(read) else None


# --- code and last lines ----------------------------------------------------------------------------------------------

_FENCE = re.compile(r"^ {0,3}```", re.MULTILINE)
_CHOICE_LINE = re.compile(r"[*_\s]*(?:\(([A-Ja-h])\)|([A-J])[).]?)[*_\s.]*")
_ALONE = re.compile(rf"[*_#>\s]*(?:{_NUMBER})(?: ?[A-Za-z°]{{1,12}}){{0,2}}[*_\s.]*")
_CONCLUSION = re.compile(
    r"(?:=|\b(?:total|result|sum)[ \t]*:"
    r"|\b(?:it|(?<![-'’])[b-hj-z]|total|result|sum|value|probability|area|length|we|equals?|gives?"
    r"|therefore|thus|hence|so)\b"
    r"[^.!?\n=]{0,60}?\b(?:is|are|be|get|gives?|equals?|obtain)\b)"
    rf"[ \t]*[*_]{{0,2}}(?P<number>{_NUMBER})(?! ?(?:times|more|less)\b)(?: ?[A-Za-z°]{{1,12}}){{0,2}}[*_\s.!]*$",
    re.IGNORECASE,
)


def _code(text: str) -> Answer | None:
    blocks = [block for block in _blocks(text) if block.strip()]
    if not blocks:
        return None
    lines = [line.rstrip() for line in blocks[-1].splitlines()]
    return Answer("code", blocks[-1], "\n".join(line for line in lines if line))


def _blocks(text: str) -> Iterator[str]:
    """The contents of fenced blocks that are closed."""
    fences = [match.start() for match in _FENCE.finditer(text)]
    for opening, closing in zip(fences[::2], fences[1::2], strict=False):
        yield text[opening:closing].partition("\n")[2]


def _concluded(text: str) -> Answer | None:
    lines = text.strip().splitlines()
    line = lines[-1][-_LONGEST_STATED:].strip() if lines else ""
    if choice := _CHOICE_LINE.fullmatch(line):
        return _answer("choice", (choice[1] or choice[2]).upper())
    if _ALONE.fullmatch(line):
        return _answer("number", line.strip("*_#> "))
    if (bold := _BOLD.search(line)) and re.fullmatch(r"\W*", line[bold.end() :]) and re.search(r"[\d\\]", bold[2]):
        return _value_at_start(bold[2])
    if maths := _last_maths(lines, line):
        return _answer("math", maths)
    match = _CONCLUSION.search(line)
    if match is None:
        return None
    directly = re.compile("[A-Za-z]*").match(line, match.end("number"))
    end = directly.end() if directly else match.end("number")  # 12th, 5cm
    return _answer("number", line[match.start("number") : end_of_value(line, end)])


def _last_maths(lines: list[str], line: str) -> str | None:
    """A formula that stands alone on the last line, or that a conclusion ends in."""
    tail = "\n".join(lines[-3:])[-_LONGEST_STATED:]
    found = list(_MATHS.finditer(tail))
    if not found or not _is_unit(tail[found[-1].end() :].strip("*_.! \n")):
        return None
    before = tail[: found[-1].start()].rpartition("\n")[2]
    is_concluded = re.search(
        r"\b(?:so|thus|hence|therefore|finally|is|are|get|gives?|equals?|obtain|have)\b[^.]*$", before, re.IGNORECASE
    )
    inside = _inside(found[-1])
    return inside if not before.strip("*_# ") or is_concluded else None


def _is_unit(words: str) -> bool:
    """Whether what stands behind a value is a measure, or nothing."""
    value, unit = without_unit(f"1 {words}")
    return value.strip() == "1" and (bool(unit) or not words or words.casefold().endswith(("unit", "units")))
