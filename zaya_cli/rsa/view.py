"""Show a run of Markovian RSA on stderr: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from zaya_cli.sizes import duration
from zaya_cli.terminal.output import draws
from zaya_cli.terminal.visible import visible
from zaya_core.answers import find_answer
from zaya_core.errors import PromptTooLongError
from zaya_core.rsa.events import BudgetsShrank, RsaEvent, RunStarted, StageFinished
from zaya_core.rsa.params import PRESETS, RsaParams, fit_to_context
from zaya_core.rsa.rollouts import (
    RolloutFinished,
    RolloutMoved,
    RolloutReturned,
    RolloutSilent,
    RolloutStarted,
    RolloutText,
)
from zaya_core.rsa.selection import Choice, answer_of

_MEASURED_AFTER = 2.0  # seconds of generating
_TOLD_AFTER = 30.0  # seconds without a byte, where there is no table
_SHOWN_ANSWER = 40  # characters
_KEPT_TEXT = 2000  # characters at the end of a text, enough to see an answer in
_REDRAWS_PER_SECOND = 4


@dataclass
class _Row:
    """One candidate: where it is in its current stage."""

    stage: int = 0
    state: str = "waiting"
    tokens: int = 0
    started: float = 0.0
    seconds: float = 0.0  # known at the end
    text: str = ""
    answer: str = ""
    silence: float = 0.0  # seconds without a byte of a server
    is_estimate: bool = False

    def speed(self, now: float) -> float:
        seconds = self.seconds or (now - self.started if self.started else 0.0)
        return self.tokens / seconds if seconds > 0 else 0.0

    @property
    def about(self) -> str:
        return "~" if self.is_estimate else ""

    def answer_so_far(self) -> str:
        found = None if self.answer else find_answer(self.text)
        return self.answer or (found.text if found else "")


@dataclass
class RsaView:
    """State: the rows of the table, tokens and rollouts that are done, since when there are tokens."""

    console: Console
    quiet: bool = False
    run: RunStarted | None = None
    params: RsaParams = field(default_factory=RsaParams)
    rows: list[_Row] = field(default_factory=list)
    tokens: int = 0
    finished: int = 0
    restored: int = 0
    finished_tokens: int = 0
    first_token: float | None = None
    started: float = field(default_factory=time.monotonic)
    seconds_to_first_token: float = 0.0
    _live: Live | None = None
    _estimated: bool = False

    def take(self, event: RsaEvent) -> None:
        """Show what happened."""
        if isinstance(event, RunStarted):
            self._begin(event)
        elif isinstance(event, RolloutStarted):
            self.rows[event.candidate] = _Row(event.stage, "reading")
        elif isinstance(event, RolloutText):
            self._add(event)
        elif isinstance(event, RolloutSilent):
            self._wait(event)
        elif isinstance(event, RolloutReturned):
            self.rows[event.candidate] = _Row(event.stage)
        elif isinstance(event, BudgetsShrank):
            self.params = event.params
            self._say(_what_the_context_leaves(event))
        elif isinstance(event, RolloutMoved):
            self.rows[event.candidate].state = "parked" if event.is_parked else "thinking"
        elif isinstance(event, RolloutFinished):
            self._end(event)
        elif isinstance(event, StageFinished):
            self._say(f"stage {event.stage + 1} of {self.params.stages} is done{_agreement(event.choice)}")

    def close(self) -> None:
        """Take the table away; what was said stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    # --- events -------------------------------------------------------------------------------------------------------

    def _begin(self, event: RunStarted) -> None:
        self.run, self.params, self.restored = event, event.params, event.restored
        self.rows = [_Row() for _ in range(event.params.candidates)]
        for line in opening_lines(event):
            self._say(line)
        if not self.quiet and draws(self.console):
            self._live = Live(
                console=self.console,
                get_renderable=self._table,
                refresh_per_second=_REDRAWS_PER_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def _add(self, event: RolloutText) -> None:
        now, row = time.monotonic(), self.rows[event.candidate]
        if self.first_token is None:
            self.first_token, self.seconds_to_first_token = now, now - self.started
        row.started = row.started or now
        if event.kind == "answer" and row.state != "answering":
            row.text = ""
        row.state = "answering" if event.kind == "answer" else "thinking"
        row.tokens += event.tokens
        row.silence = 0.0
        row.text = (row.text + event.text)[-_KEPT_TEXT:]
        self.tokens += event.tokens
        if self.run is not None and not self._estimated and now - self.first_token > _MEASURED_AFTER:
            self._estimated = True
            self._say(estimate(self.run, self.tokens / (now - self.first_token)))

    def _wait(self, event: RolloutSilent) -> None:
        """A silent server: the table shows for how long, lines tell it after half a minute, one, two, four ..."""
        row = self.rows[event.candidate]
        told = _TOLD_AFTER * 2 ** int(math.log2(event.seconds / _TOLD_AFTER)) if event.seconds >= _TOLD_AFTER else 0.0
        if self._live is None and row.silence < told:
            where = f"candidate {event.candidate + 1}, stage {event.stage + 1} of {self.params.stages}"
            self._say(f"{where}: waiting, nothing came for {duration(event.seconds)}")
        row.silence = event.seconds

    def _end(self, event: RolloutFinished) -> None:
        rollout, row = event.rollout, self.rows[event.rollout.candidate]
        self.finished += 1
        self.finished_tokens += rollout.completion_tokens
        answer = answer_of(rollout)
        row.state, row.seconds, row.silence = rollout.state, rollout.decode_seconds, 0.0
        row.is_estimate = rollout.is_estimate
        row.answer = "" if answer is None else answer.text
        where = f"candidate {rollout.candidate + 1}, stage {rollout.stage + 1} of {self.params.stages}"
        if rollout.state == "loop":
            self._say(f"{where}: it repeated itself and was stopped after {rollout.completion_tokens:,} tokens")
        elif rollout.error:
            self._say(f"{where}: {rollout.error}")
        elif self._live is None:
            speed = f"{row.speed(time.monotonic()):.1f} tok/s"
            shown = f", {_short(row.answer)}" if row.answer else ""
            self._say(f"{where}: {rollout.state}, {row.about}{rollout.completion_tokens:,} tokens, {speed}{shown}")

    def _say(self, line: str) -> None:
        if not self.quiet:
            self.console.print(line, style="dim")

    # --- the table ----------------------------------------------------------------------------------------------------

    def _table(self) -> Group:
        now = time.monotonic()
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("candidate", "stage", "tokens", "tok/s"):
            table.add_column(name, justify="right")
        table.add_column("state")
        table.add_column("answer so far", no_wrap=True, overflow="ellipsis", max_width=_SHOWN_ANSWER)
        for number, row in enumerate(self.rows, 1):
            stage = f"{row.stage + 1}/{self.params.stages}"
            state = f"{row.state}, waiting {duration(row.silence)}" if row.silence else row.state
            cells = (str(number), stage, f"{row.about}{row.tokens:,}", f"{row.speed(now):.1f}", state)
            table.add_row(*cells, Text(_short(row.answer_so_far())))
        return Group(table, Text(self.summary(now), style="dim"))

    def summary(self, now: float) -> str:
        """Total tokens, speed, and the time that is left if what is to come is like what was."""
        seconds = now - self.first_token if self.first_token is not None else 0.0
        speed = self.tokens / seconds if seconds > 0 else 0.0
        line = f"{self.tokens:,} tokens, {speed:.1f} tok/s"
        left = self.params.rollouts - self.restored - self.finished
        if speed <= 0 or left <= 0:
            return line
        typical = (
            self.finished_tokens / self.finished if self.finished else self.params.typical_tokens / self.params.rollouts
        )
        running = self.tokens - self.finished_tokens
        return f"{line}, about {duration(max(0.0, left * typical - running) / speed)} left"


def opening_lines(event: RunStarted) -> list[str]:
    """What will be done, at most how many tokens that is, and what the context took away."""
    asked, params = event.asked, event.params
    shown = "tails" if params.passes == "tail" else "answers or tails"
    rounds = f"{params.rounds} {'round' if params.rounds == 1 else 'rounds'} over {params.tails} {shown} each"
    lines = [
        f"Markovian RSA: {params.candidates} candidates, {rounds}, {params.rollouts} rollouts, "
        f"at most {params.most_tokens:,} tokens"
    ]
    if (params.think, params.tail, params.answer) != (asked.think, asked.tail, asked.answer):
        lines.append(_what_the_context_leaves(event))
    if event.restored:
        lines.append(f"{event.restored} rollouts are there from an earlier run.")
    return lines


def _what_the_context_leaves(event: RunStarted | BudgetsShrank) -> str:
    asked, params = event.asked, event.params
    return (
        f"The context of {event.context:,} tokens, of which the question takes {event.sizes.question:,}, leaves "
        f"{params.think:,} for the thinking (of {asked.think:,}), {params.tail:,} for a tail (of {asked.tail:,}), "
        f"{params.answer:,} for the answer (of {asked.answer:,})."
    )


def estimate(event: RunStarted, speed: float) -> str:
    """How long a run may take at a measured number of tokens per second, and what the light preset would."""
    left = 1 - event.restored / event.params.rollouts
    line = f"At {speed:.1f} tokens per second this may take {_times(event.params, speed / left)}"
    try:
        light = fit_to_context(PRESETS["light"], event.sizes, event.context)
    except PromptTooLongError:
        return f"{line}."
    return f"{line}; --rsa-preset light {_times(light, speed)}."


def _times(params: RsaParams, speed: float) -> str:
    typical, most = duration(params.typical_tokens / speed), duration(params.most_tokens / speed)
    return f"{typical}, at most {most}"


def _agreement(choice: Choice) -> str:
    if choice.answer is None:
        return ""
    if choice.agreeing == 1:
        return ": no two candidates agree" if choice.total > 1 else f": {_short(choice.answer.text)}"
    return f": {choice.agreeing} of {choice.total} agree on {_short(choice.answer.text)}"


def _short(text: str) -> str:
    line = visible(" ".join(text.split()))
    return line if len(line) <= _SHOWN_ANSWER else line[: _SHOWN_ANSWER - 1] + "…"
