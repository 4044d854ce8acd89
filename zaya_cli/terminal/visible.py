"""Text that others made (a model, a server, a file, a name) as a terminal may show it: nothing in it steers."""

from __future__ import annotations

import re

UNSEEN = "".join(map(chr, (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x2070))))  # end or reverse a line
# With control characters but newline and tab, and halves of characters, which stand for bytes of a broken name.
_STEERING = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{UNSEEN}\ud800-\udfff]")
_PICTURES = 0x2400  # Unicode's pictures of the control characters, in their order
_PICTURES_OF_BLANKS = {ord(blank): chr(_PICTURES + ord(blank)) for blank in "\n\t"}
_DELETE, _PICTURE_OF_DELETE = 0x7F, 0x2421
_FIRST_BYTE, _LAST_BYTE = 0xDC80, 0xDCFF  # what Python reads the bytes 0x80 to 0xFF of a broken name as


def visible(text: str) -> str:
    """The text with `␛` for an escape, `<U+009B>` for what has no picture, `<0xE9>` for a byte that is no text.

    Newlines and tabs stay. Each character is looked at by itself, so pieces of a text may be given one by one.
    """
    return text if text.isprintable() else _STEERING.sub(lambda found: _shown(ord(found[0])), text)


def one_line(text: str) -> str:
    """A name, or a line of a list that names something: its newlines and tabs are shown, too."""
    return visible(text).translate(_PICTURES_OF_BLANKS)


def escaped(json: str) -> str:
    """The same JSON value written without any of these characters."""
    return json if json.isprintable() else _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", json)


def _shown(code: int) -> str:
    if code < ord(" "):
        return chr(_PICTURES + code)
    if code == _DELETE:
        return chr(_PICTURE_OF_DELETE)
    return f"<0x{code - 0xDC00:02X}>" if _FIRST_BYTE <= code <= _LAST_BYTE else f"<U+{code:04X}>"
