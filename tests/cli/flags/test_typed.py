"""What is a number or a switch is so everywhere: on the command line, in a variable, in `config show`, in the chat."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from zaya_cli.chat.answer_settings import change
from zaya_cli.flags.generation import GenerationSettings
from zaya_core.errors import UsageError

MISSING = ("run", "-p", "x", "-m", "./missing")  # 3 where all flags were understood, 2 where one was not
TEXTS = ["8", " 8", "+8", "8.0", "1_0", "8.5", "eight", "\uff18", "9" * 5000, "1e1", "0x8", "-"]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:9]))
def test_a_whole_number_is_one_rule(zaya, monkeypatch, text):
    is_taken = zaya(*MISSING, f"--max-tokens={text}").code == 3
    monkeypatch.setenv("ZAYA_MAX_TOKENS", text)
    assert (zaya(*MISSING).code == 3) == is_taken
    assert (zaya("config", "show").code == 0) == is_taken
    conversation: Any = SimpleNamespace(settings=GenerationSettings())
    with nullcontext() if is_taken else pytest.raises(UsageError, match="must be a whole number"):
        change(conversation, "max_tokens", text)
    assert (conversation.settings.max_tokens in (8, 10)) == is_taken


@pytest.mark.parametrize("text", ["1", "0", "on", "off", "T", "yes", "No", "1.0", "2", "maybe"])
def test_a_switch_is_one_rule(zaya, monkeypatch, text):
    monkeypatch.setenv("ZAYA_HISTORY", text)
    is_taken = zaya("chat", "-m", "./missing").code == 3
    assert (zaya("config", "show").code == 0) == is_taken


@pytest.mark.parametrize("command", [("run", "-p", "x"), ("bench",), ("quantize",)])
@pytest.mark.parametrize("count", ["0", "-1", "1025"])
def test_the_threads_have_one_range(zaya, command, count):
    result = zaya(*command, "--model", "demo", "--threads", count)
    assert (result.code, result.out) == (2, "")
    assert "it must be from 1 to 1,024" in result.err
