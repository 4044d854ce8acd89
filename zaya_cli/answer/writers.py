"""The answers of `zaya run` as text, as JSON, or as lines of JSON."""

from __future__ import annotations

from typing import Any

from zaya_cli.answer.answer import Answer
from zaya_cli.answer.answer_json import USAGE, answer_json, origin_json, placement_of, quant_of, timings_json
from zaya_cli.answer.render import AnswerView, stats_line
from zaya_cli.failures import error_json
from zaya_cli.flags.run import RunSettings
from zaya_cli.runtime import Runtime
from zaya_cli.terminal.output import stderr_console, write_answer, write_json, write_note
from zaya_cli.terminal.visible import one_line
from zaya_core.engine.events import (
    Event,
    Failed,
    Finished,
    PrefillProgress,
    Stats,
    TextEvent,
    ThinkingEnded,
    TokenEvent,
)


def writer_for(settings: RunSettings, runtime: Runtime, answers: list[Answer], seed: int) -> Writer:
    """The writer of `--format`."""
    kinds = {"text": _TextWriter, "json": _JsonWriter, "jsonl": _JsonLinesWriter}
    return kinds[settings.format](settings, runtime, answers, seed)


class Writer:
    """Where the events of all answers go."""

    def __init__(self, settings: RunSettings, runtime: Runtime, answers: list[Answer], seed: int):
        self.settings = settings
        self.runtime = runtime
        self.answers = answers
        self.seed = seed
        self.console = stderr_console(settings.color)

    def take(self, answer: Answer, event: Event) -> None:
        """An event of one answer, already recorded in it."""

    def close(self) -> None:
        """No more events will come."""
        if not self.settings.stats:
            return
        for answer in self.answers:
            if answer.finished is not None:
                source = f"{answer.prompt.source}: " if len(self.answers) > 1 else ""
                line = stats_line(answer.finished.stats, self.seed, self.runtime.load_seconds, self.runtime.computed_by)
                self.console.print(source + line, style="dim")
        self.console.print(f"{self.runtime.engine.model.placement_reason}; {self.runtime.threads} threads", style="dim")
        if self.runtime.found.reason is not None:
            self.console.print(f"{self.runtime.name}: {self.runtime.found.reason}", style="dim")

    def as_json(self, answer: Answer) -> dict[str, Any]:
        """The fields of `--format json`; of one that failed, its error."""
        if answer.failed is not None:
            return {"error": error_json(answer.failed.error), **origin_json(answer.prompt, len(self.answers) > 1)}
        assert answer.finished is not None
        stats = answer.finished.stats
        value = answer_json(
            text=answer.text("answer"),
            thinking=answer.text("thinking"),
            finish_reason=answer.finished.reason,
            usage={name: getattr(stats, name) for name in USAGE},
            timings=_timings(self.runtime, stats),
            seed=self.seed,
            model=self.runtime.name,
            quant=quant_of(self.runtime),
            placement=placement_of(self.runtime),
            prompt=answer.prompt,
            is_one_of_many=len(self.answers) > 1,
        )
        if self.settings.logprobs is not None:
            value["logprobs"] = [_token_json(self.runtime, token) for token in answer.tokens]
        return value


class _TextWriter(Writer):
    """Answers in order, a blank line between two; the first unfinished one is shown as it is made."""

    def __init__(self, settings: RunSettings, runtime: Runtime, answers: list[Answer], seed: int):
        super().__init__(settings, runtime, answers, seed)
        self._current = 0
        self._view = self._open_view(answers[0])

    def take(self, answer: Answer, event: Event) -> None:
        if answer is self.answers[self._current]:
            self._view.show(event)
        while self._current + 1 < len(self.answers) and self.answers[self._current].has_ended:
            self._current += 1
            self._show_next(self.answers[self._current])

    def _show_next(self, answer: Answer) -> None:
        write_answer("\n")
        self._view = self._open_view(answer)
        for earlier in answer.events:
            self._view.show(earlier)

    def _open_view(self, answer: Answer) -> AnswerView:
        if len(self.answers) > 1 and not self.settings.quiet:
            self.console.print(one_line(f"== {answer.prompt.source}"), style="bold")
        return AnswerView(self.console, self.settings.generation.thinking, self.settings.quiet)

    def close(self) -> None:
        for answer in self.answers[self._current + 1 :]:
            if answer.finished is not None:  # it waited for an earlier one that failed
                self._show_next(answer)
        super().close()
        for answer in self.answers:
            if answer.finished is not None and answer.finished.reason == "length" and not self.settings.quiet:
                which = f"to {answer.prompt.source} " if len(self.answers) > 1 else ""
                write_note(f"zaya: the answer {which}was cut at its length limit (--max-tokens, --ctx).")


class _JsonWriter(Writer):
    """One object at the end, or a list of them for several prompts."""

    def close(self) -> None:
        is_only = len(self.answers) == 1  # its error is the command's
        values = [self.as_json(answer) for answer in self.answers if answer.finished or (answer.failed and not is_only)]
        if values:
            write_json(values[0] if len(self.answers) == 1 else values, is_whole=True)
        super().close()


class _JsonLinesWriter(Writer):
    """Every event as it happens; `prompt` counts the prompts from 0; the last event of each has the fields of json."""

    def take(self, answer: Answer, event: Event) -> None:
        number = {"prompt": self.answers.index(answer)}
        if isinstance(event, Finished):
            write_json({"event": "finished", **number, **self.as_json(answer)})
        elif isinstance(event, Failed) and len(self.answers) > 1:
            write_json({"event": "failed", **number, **self.as_json(answer)})
        elif isinstance(event, PrefillProgress):
            write_json({"event": "prefill", **number, "done": event.done, "total": event.total, "cached": event.cached})
        elif isinstance(event, TokenEvent) and self.settings.logprobs is not None:
            write_json({"event": "token", **number, **_token_json(self.runtime, event)})
        elif isinstance(event, ThinkingEnded):
            write_json(
                {"event": "thinking_ended", **number, "tokens": event.tokens, "seconds": round(event.seconds, 3)}
            )
        elif isinstance(event, TextEvent):
            write_json({"event": event.kind, **number, "text": event.text})


def _token_json(runtime: Runtime, token: TokenEvent) -> dict[str, Any]:
    spell = runtime.engine.tokenizer.token_text
    value: dict[str, Any] = {"id": token.token_id, "token": spell(token.token_id), "logprob": round(token.logprob, 6)}
    if token.top_logprobs:
        value["top_logprobs"] = [
            {"id": id_, "token": spell(id_), "logprob": round(logprob, 6)} for id_, logprob in token.top_logprobs
        ]
    return value


def _timings(runtime: Runtime, stats: Stats) -> dict[str, float]:
    return timings_json(
        load=runtime.load_seconds,
        prompt=stats.prompt_seconds,
        prompt_rate=stats.prompt_tokens_per_second,
        first_token=stats.seconds_to_first_token,
        decode=stats.decode_seconds,
        decode_rate=stats.decode_tokens_per_second,
        peak_memory=stats.peak_memory_bytes,
    )
