"""Server-sent events, however they are cut, and what servers send in their place."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from zaya_core.rsa.endpoint.faults import BrokenStream, Malformed

_LONGEST = 1 << 24  # characters of one line, or of what is no event
_LINE_END = re.compile("\r\n|\n|\r")  # and no others: JSON may hold U+2028
_FIELD = re.compile(r"(data|event|id|retry)(?::|$) ?")


def read_events(chunks: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
    """The JSON objects of a stream, None for `[DONE]`; or the one object of a response that does not stream.

    Bytes that are no UTF-8 become U+FFFD. Raises: Malformed for a page that is neither; BrokenStream for half an event.
    """
    reader = _Reader()
    for line in _lines(chunks):
        yield from reader.take(line)
    yield from reader.finish()


class _Reader:
    """State: the data lines of the event that has begun, and what was no event."""

    def __init__(self) -> None:
        self.data: list[str] = []
        self.other: list[str] = []
        self.other_size = 0
        self.has_events = False

    def take(self, line: str) -> Iterator[dict[str, Any] | None]:
        field = _FIELD.match(line)
        if field and field[1] == "data":
            yield from self._dispatch(is_at_end=False)  # servers that leave out the empty line
            self.data.append(line[field.end() :])
        elif not line:
            yield from self._dispatch()
        elif not field and not line.startswith(":") and not self.has_events:
            self.other.append(line)
            self.other_size += len(line)
            if self.other_size > _LONGEST:
                raise Malformed("a page without end")

    def finish(self) -> Iterator[dict[str, Any] | None]:
        yield from self._dispatch()
        if not self.has_events and (page := "\n".join(self.other).strip()):
            yield _whole(page)

    def _dispatch(self, is_at_end: bool = True) -> Iterator[dict[str, Any] | None]:
        text = "\n".join(self.data).strip()
        if text.startswith("[DONE]"):
            value = None
        elif not text:
            self.data = []
            return
        else:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                if is_at_end:
                    raise BrokenStream("half an event") from None
                return  # its JSON goes on in the next data line
        self.data, self.has_events = [], True
        if value is None or isinstance(value, dict):
            yield value if text != "null" else {}


def _whole(page: str) -> dict[str, Any]:
    try:
        value = json.loads(page)
    except (ValueError, RecursionError):
        kind = "a web page" if page.startswith("<") else "no JSON"
        raise Malformed(f"{kind}: {' '.join(page.split())[:80]}") from None
    if not isinstance(value, dict):
        raise Malformed("no JSON object")
    return value


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    rest = ""
    for chunk in chunks:
        rest += decoder.decode(chunk)
        # "\r" at the end may be half of "\r\n"
        whole, kept = (rest[:-1], rest[-1]) if rest.endswith("\r") else (rest, "")
        *lines, last = _LINE_END.split(whole)
        yield from lines
        rest = last + kept
        if len(rest) > _LONGEST:
            raise Malformed("a line without end")
    yield from _LINE_END.split(rest + decoder.decode(b"", True))
