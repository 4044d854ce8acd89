"""Whatever bytes a terminal sends, the chat's line editor reads a message, an end or an interrupt, and nothing else."""

from __future__ import annotations

import random
import signal

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import DummyCompleter
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from tests.fuzz.budget import rounds
from zaya_cli.chat.line_input import TerminalInput

PIECES = (
    b"hello", "\u4f60\u597d".encode(), "e\u0301\U0001f469\u200d\U0001f52c".encode(), b"/help", b"/", b'"""', b"\\",
    b" ", b"\t", b"\x01", b"\x02", b"\x04", b"\x05", b"\x0b", b"\x12", b"\x15", b"\x17", b"\x19", b"\x1f", b"\x7f",
    b"\x08",
    b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D", b"\x1b[H", b"\x1b[3~", b"\x1b\r", b"\x1bb", b"\x1b[1;5C",
    b"\x1b[999;999R", b"\x1b[M   ", b"\x1b[<0;1;1M", b"\x1b]0;title\x07", b"\x1b[?1000h", b"\x1bOP",
    b"\x1b", b"\x1b[", b"\x00", b"\xff",
    b"\xc3", b"\xed\xa0\x80", b"\x1b[200~pasted\nlines\r\x1b[201~", b"\x03", b"\r",
)  # fmt: skip
BLOCKED_AFTER = 10  # seconds


def typed(case: int) -> bytes:
    rng = random.Random(case)
    return b"".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 12)))


def read(keys: bytes) -> str | None:
    """One message; None for an end or an interrupt. What is typed ends in Enter twice, out of any search or block."""
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        editor = TerminalInput(None, DummyCompleter(), lambda: "", has_color=False)
        pipe.send_bytes(keys)
        editor._session.app.input = pipe
        try:
            return editor._prompt()
        except (EOFError, KeyboardInterrupt):
            return None


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no alarm to end a prompt that waits for ever")
def test_whatever_a_terminal_sends_is_read_as_a_message_an_end_or_an_interrupt(monkeypatch, capfd):
    monkeypatch.setenv("VISUAL", "true")  # Ctrl-G opens it, and it changes nothing
    last: list[int] = []

    def stuck(number, frame):
        raise AssertionError(f"the prompt waits for ever, in case {last[-1]}")

    before = signal.signal(signal.SIGALRM, stuck)
    try:
        for case in rounds(60):
            last.append(case)
            signal.alarm(BLOCKED_AFTER)
            # Ctrl-C ends a search or clears what is there; on an empty line it leaves.
            message = read(typed(case) + b"\x1b[201~" + b"\x03" * 6)
            assert message is None or isinstance(message, str), case
            signal.alarm(0)
            assert "Traceback" not in (shown := capfd.readouterr().err) and "Unexpected" not in shown, case
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
