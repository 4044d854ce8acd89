"""A real pseudo-terminal with a program in it, seen as the screen that a person would see."""

from __future__ import annotations

import os
import re
import signal
import sys
import time

import pexpect
import pyte

SECONDS = 300.0  # until something that must happen is given up: a slow machine is no failure


class _Screen(pyte.HistoryScreen):  # type: ignore[misc]
    """Answers the program's questions, such as where the cursor is."""

    def __init__(self, columns, lines, answer):
        super().__init__(columns, lines, history=10_000)
        self._answer = answer

    def write_process_input(self, data):
        self._answer(data)


class Terminal:
    """`zaya ARGUMENTS` on a terminal of a size, with nothing of the caller's environment that could matter."""

    def __init__(self, *arguments, home, columns=80, lines=24, **environment):
        inherited = {key: os.environ[key] for key in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if key in os.environ}
        homes = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("STATE", "DATA", "CONFIG")}
        fixed = {
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "HF_HUB_OFFLINE": "1",
            "ZAYA_THREADS": "1",
            "HOME": str(home),
        }
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "zaya_cli.app", *map(str, arguments)],
            env={**inherited, **homes, **fixed, **environment},
            dimensions=(lines, columns),
        )
        self.screen = _Screen(columns, lines, self.child.send)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.child.isalive():
            self.child.kill(signal.SIGKILL)
            self.child.wait()
        self.child.close(force=True)

    @property
    def lines(self):
        """All lines, those that have left the screen too, without blanks at their ends."""
        left = ["".join(line[x].data for x in range(self.screen.columns)) for line in self.screen.history.top]
        return [line.rstrip() for line in [*left, *self.screen.display]]

    @property
    def text(self):
        return "\n".join(self.lines).rstrip()

    @property
    def cursor_line(self):
        return self.screen.display[self.screen.cursor.y].rstrip()

    def wait_until(self, condition):
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; the screen:\n{self.text}"
            self._look()

    def wait_for(self, text):
        self.wait_until(lambda: text in self.text)

    def wait_for_prompt(self):
        self.wait_until(lambda: self.cursor_line == ">>>")

    def resize(self, columns, lines):
        """As a terminal that cuts lines which no longer fit."""
        self.child.setwinsize(lines, columns)
        self.screen.resize(lines, columns)

    def press(self, keys):
        self.child.send(keys)

    def type(self, text):
        """Type a text and wait until the cursor stands behind it."""
        self.press(text)
        end = re.sub(r"\s", "", text)[-4:]
        self.wait_until(lambda: re.sub(r"\s", "", self.cursor_line).endswith(end))

    def send(self, text):
        """Type a message and Enter."""
        self.type(text)
        self.press("\r")

    def ask(self, text):
        """Send a message and wait until the program wants another; what has come on the screen meanwhile."""
        before = len(self.lines)
        self.send(text)
        self.wait_for_prompt()
        return "\n".join(self.lines[max(0, before - self.screen.lines) :])

    def kill(self, number=signal.SIGKILL):
        self.child.kill(number)

    def wait_for_end(self):
        """The exit code, negative for a signal."""
        self.wait_until(lambda: not self._look())
        self.child.wait()
        return self.child.exitstatus if self.child.signalstatus is None else -self.child.signalstatus

    def _look(self):
        try:
            data = self.child.read_nonblocking(65536, timeout=0.5)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self.stream.feed(data)
        return True
