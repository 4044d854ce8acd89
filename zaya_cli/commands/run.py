"""`zaya run`: answer prompts once and leave. The command that is meant for pipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zaya_cli.answer.answer_json import USAGE, answer_json, origin_json, placement_of, quant_of, timings_json
from zaya_cli.answer.prompts import Prompt, collect_prompts
from zaya_cli.answer.render import AnswerView, stats_line
from zaya_cli.failures import Interrupted, error_json, exit_code_of, sentence_of
from zaya_cli.flags.generation import GenerationSettings
from zaya_cli.rsa.options import RsaFlags
from zaya_cli.runtime import Runtime, RuntimeSettings, open_runtime
from zaya_cli.terminal.interrupt import stopping
from zaya_cli.terminal.output import Color, Format, stderr_console, write_answer, write_json, write_note
from zaya_cli.terminal.visible import one_line
from zaya_core.engine.events import Event, Failed, Finished, PrefillProgress, TextEvent, ThinkingEnded, TokenEvent
from zaya_core.errors import UsageError


@dataclass(frozen=True)
class RunSettings:
    """All that `zaya run` was asked for."""

    files: tuple[str, ...]
    text: str | None
    system: str | None
    runtime: RuntimeSettings
    generation: GenerationSettings
    format: Format
    stats: bool
    color: Color
    quiet: bool
    rsa: RsaFlags = field(default_factory=RsaFlags)


@dataclass
class Answer:
    """One prompt's answer as far as it has come."""

    prompt: Prompt
    events: list[Event] = field(default_factory=list)
    tokens: list[TokenEvent] = field(default_factory=list)
    finished: Finished | None = None
    failed: Failed | None = None

    @property
    def has_ended(self) -> bool:
        return self.finished is not None or self.failed is not None

    def text(self, kind: str) -> str:
        return "".join(e.text for e in self.events if isinstance(e, TextEvent) and e.kind == kind)


def run(settings: RunSettings) -> None:
    """Answer every prompt, in the order in which they were given.

    One that fails does not keep the others from being answered. Raises: the error of an only prompt; with several, each
    told on stderr, SystemExit with the exit code of the first that failed; Interrupted after Ctrl-C, when the partial
    answers have been shown.
    """
    if settings.generation.top_logprobs is not None and settings.format == "text":
        raise UsageError("--logprobs are written as JSON only: add --format json or jsonl.")
    if settings.rsa.is_wanted:
        from zaya_cli.commands.run_rsa import run as run_rsa

        run_rsa(settings)
        return
    prompts = collect_prompts(settings.files, settings.text)
    runtime = open_runtime(settings.runtime)
    sampling = settings.generation.sampling(runtime.folder)
    requests = [
        settings.generation.request(runtime.engine.tokenizer, _messages(settings.system, prompt), sampling, candidate)
        for candidate, prompt in enumerate(prompts)
    ]
    ids = [runtime.engine.submit(request) for request in requests]
    answers = {id_: Answer(prompt) for id_, prompt in zip(ids, prompts, strict=True)}
    writer = _writer(settings, runtime, list(answers.values()), sampling.seed)
    try:
        with stopping(on_first=lambda: runtime.engine.cancel(*ids)) as stop:
            for event in runtime.engine.events(ids):
                _record(answers[event.request_id], event)
                writer.take(answers[event.request_id], event)
    finally:
        writer.close()  # what is finished is not lost to an error in what is not
    if stop.exit_code is not None:
        raise Interrupted(stop.exit_code)
    _end_with_failures(list(answers.values()))


def _end_with_failures(answers: list[Answer]) -> None:
    failures = [(answer.prompt.source, answer.failed.error) for answer in answers if answer.failed is not None]
    if failures and len(answers) == 1:
        raise failures[0][1]
    for source, error in failures:
        write_note(f"zaya: {source}: {sentence_of(error)}")
    if failures:
        raise SystemExit(exit_code_of(failures[0][1]))


def _messages(system: str | None, prompt: Prompt) -> list[dict[str, str]]:
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": prompt.text}]


def _record(answer: Answer, event: Event) -> None:
    if isinstance(event, TokenEvent):
        answer.tokens.append(event)
    elif isinstance(event, Finished):
        answer.finished = event
    elif isinstance(event, Failed):
        answer.failed = event
    answer.events.append(event)


def _writer(settings: RunSettings, runtime: Runtime, answers: list[Answer], seed: int) -> _Writer:
    kinds = {"text": _TextWriter, "json": _JsonWriter, "jsonl": _JsonLinesWriter}
    return kinds[settings.format](settings, runtime, answers, seed)


class _Writer:
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
                line = stats_line(answer.finished.stats, self.seed, self.runtime.load_seconds)
                self.console.print(source + line, style="dim")
        self.console.print(f"{self.runtime.engine.model.placement_reason}; {self.runtime.threads} threads", style="dim")
        if self.runtime.chosen_because is not None:
            self.console.print(f"{self.runtime.name}: {self.runtime.chosen_because}", style="dim")

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
            timings=self._timings(answer.finished),
            seed=self.seed,
            model=self.runtime.name,
            quant=quant_of(self.runtime),
            placement=placement_of(self.runtime),
            prompt=answer.prompt,
            is_one_of_many=len(self.answers) > 1,
        )
        if self.settings.generation.top_logprobs is not None:
            value["logprobs"] = [_token_json(self.runtime, token) for token in answer.tokens]
        return value

    def _timings(self, finished: Finished) -> dict[str, float]:
        stats = finished.stats
        return timings_json(
            load=self.runtime.load_seconds,
            prompt=stats.prompt_seconds,
            prompt_rate=stats.prompt_tokens_per_second,
            first_token=stats.seconds_to_first_token,
            decode=stats.decode_seconds,
            decode_rate=stats.decode_tokens_per_second,
            peak_memory=stats.peak_memory_bytes,
        )


class _TextWriter(_Writer):
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


class _JsonWriter(_Writer):
    """One object at the end, or a list of them for several prompts."""

    def close(self) -> None:
        is_only = len(self.answers) == 1  # its error is the command's
        values = [self.as_json(answer) for answer in self.answers if answer.finished or (answer.failed and not is_only)]
        if values:
            write_json(values[0] if len(self.answers) == 1 else values, is_whole=True)
        super().close()


class _JsonLinesWriter(_Writer):
    """Every event as it happens; `prompt` counts the prompts from 0; the last event of each has the fields of json."""

    def take(self, answer: Answer, event: Event) -> None:
        number = {"prompt": self.answers.index(answer)}
        if isinstance(event, Finished):
            write_json({"event": "finished", **number, **self.as_json(answer)})
        elif isinstance(event, Failed) and len(self.answers) > 1:
            write_json({"event": "failed", **number, **self.as_json(answer)})
        elif isinstance(event, PrefillProgress):
            write_json({"event": "prefill", **number, "done": event.done, "total": event.total, "cached": event.cached})
        elif isinstance(event, TokenEvent) and self.settings.generation.top_logprobs is not None:
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
