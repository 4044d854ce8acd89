"""What is read of a body is what every other program would read of it; anything else is refused in one sentence."""

from __future__ import annotations

import json

import pytest

from zaya_cli.serve.guard.json_body import read_json_object
from zaya_core.errors import UsageError

DEEP = b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "no JSON"),
        (b'{"a":1', "no JSON"),
        (b'{"a":1}x', "no JSON"),
        (b"{'a':1}", "no JSON"),
        (b'{"a":1,}', "no JSON"),
        (b'{"a":"\n"}', "no JSON"),
        (b'{"a":"\x00"}', "no JSON"),
        (b'{"a":01}', "no JSON"),
        (b"prompt=x&model=y", "no JSON"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":[Infinity]}', "Infinity"),
        (b'{"a":-Infinity}', "-Infinity"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":-1e999}', "too large"),
        (b'{"a":' + b"1" * 100_000 + b"}", "100,000 digits"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ('{"a":1}'.encode("utf-16"), "byte order mark"),
        ('{"a":"x"}'.encode("utf-16-le"), "no JSON"),
        ('{"a":1}'.encode("utf-32"), "byte order mark"),
        (b'{"a":"\xff"}', "not UTF-8 (byte 6)"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a":"\xc0\xaf"}', "not UTF-8"),
        (DEEP, "too deeply"),
        (b"[" * 1_000_000, "too deeply"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "too deeply"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'"text"', "object"),
        (b"1", "object"),
        (b"true", "object"),
    ],
    ids=lambda value: ascii(value[:20]),
)
def test_a_bad_body_is_refused_in_one_sentence_that_does_not_repeat_it(body, said):
    with pytest.raises(UsageError) as refused:
        read_json_object(body)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 120
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [{}, {"a": None}, {"a": [1, -2.5, True, "x", {"b": []}]}, {"ü": "漢😀\x00\u2028"}, {"a": 10**300}, {"a": 1e300}],
)
def test_a_good_body_is_its_value(value):
    assert read_json_object(json.dumps(value).encode()) == value
    assert read_json_object(json.dumps(value, ensure_ascii=False).encode()) == value


def test_what_nests_a_hundredfold_is_read():
    assert read_json_object(b'{"a":' * 100 + b"1" + b"}" * 100)


def test_halves_of_characters_are_replaced_and_whole_ones_are_kept():
    body = rb'{"\ud800": "a\udc00b\ud83d\ude00", "c": ["\uD83D", {"d": "\\ud800"}], "n": 1}'
    value = read_json_object(body)
    assert value == {"\ufffd": "a\ufffdb\U0001f600", "c": ["\ufffd", {"d": "\\ud800"}], "n": 1}
    json.dumps(value, ensure_ascii=False).encode()
