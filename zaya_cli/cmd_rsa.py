"""`zaya run --rsa`: answer prompts by Markovian RSA, one after another."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zaya_cli.failures import INTERRUPTED, Interrupted
from zaya_cli.output import stderr_console, write_answer, write_json
from zaya_cli.prompts import Prompt, collect_prompts
from zaya_cli.rsa_answer import WatchedResult, agreement_line, watch
from zaya_cli.rsa_generator import Source, open_source
from zaya_cli.rsa_options import rsa_sampling
from zaya_cli.rsa_view import RsaView
from zaya_core.errors import NetworkError
from zaya_core.rsa import RsaResult
from zaya_core.rsa.events import BudgetsShrank, RsaEvent, RunStarted, StageFinished
from zaya_core.rsa.rollouts import RolloutFinished, RolloutStarted
from zaya_core.rsa.saved import restore_rollouts, save_rollouts, saved_seed
from zaya_core.rsa.selection import answer_of

if TYPE_CHECKING:
    from zaya_cli.cmd_run import RunSettings


def run(settings: RunSettings) -> None:
    """Answer every prompt; Ctrl-C ends the current one with the best answer so far, and with it the command.

    Raises: Interrupted; NetworkError after an answer that a server's failure cut short.
    """
    prompts = collect_prompts(settings.files, settings.text)
    settings.rsa.params()  # refused before anything is loaded
    rsa_sampling(settings.generation, 0)
    source = open_source(settings.runtime, settings.rsa, settings.generation.stop)
    command = _Command(settings, source, len(prompts))
    for note in source.notes:
        print(f"zaya: {note}", file=sys.stderr)
    try:
        for number, prompt in enumerate(prompts):
            command.answer(number, prompt)
    finally:
        command.close()


@dataclass
class _Answered:
    """One prompt's result with its figures."""

    prompt: Prompt
    watched: WatchedResult
    seed: int
    seconds: float
    seconds_to_first_token: float


class _Command:
    """State: the answers so far, for `--format json`."""

    def __init__(self, settings: RunSettings, source: Source, prompts: int):
        self.settings = settings
        self.source = source
        self.prompts = prompts
        self.console = stderr_console(settings.color)
        self.answered: list[_Answered] = []

    def answer(self, number: int, prompt: Prompt) -> None:
        """Run one prompt and show its answer."""
        if self.prompts > 1 and not self.settings.quiet:
            self.console.print(f"== {prompt.source}", style="bold")
        answered = self._solve(number, prompt)
        self.answered.append(answered)
        self._show(number, answered)
        stopped_by = answered.watched.stopped_by
        has_more = number + 1 < self.prompts
        if stopped_by is not None and (stopped_by != INTERRUPTED or has_more):
            raise Interrupted(stopped_by)
        if answered.watched.result.error is not None:
            raise NetworkError(answered.watched.result.error)

    def _solve(self, number: int, prompt: Prompt) -> _Answered:
        flags, started = self.settings.rsa, time.perf_counter()
        path = self._saved_file(number)
        seed = self.settings.generation.seed
        if seed is None and path is not None:
            seed = saved_seed(path)
        seed = self.settings.generation.seed_or_random() if seed is None else seed
        params, sampling = flags.params(), rsa_sampling(self.settings.generation, seed)
        first = [{"role": "system", "content": self.settings.system}] if self.settings.system else []
        messages = [*first, {"role": "user", "content": prompt.text}]
        identity = {
            "seed": seed, "messages": messages, "settings": asdict(params), "sampling": asdict(sampling),
            "model": self.source.name, **self.source.placement, "context": self.source.generator.context,
        }  # fmt: skip
        view = RsaView(self.console, self.settings.quiet)
        watched = watch(
            self.source.generator,
            messages,
            params,
            sampling,
            view,
            restored=() if path is None else restore_rollouts(path, identity),
            save=lambda rollouts: None if path is None else save_rollouts(path, identity, rollouts),
            on_event=lambda event: self._report(number, event),
        )
        return _Answered(prompt, watched, seed, time.perf_counter() - started, view.seconds_to_first_token)

    def _saved_file(self, number: int) -> Path | None:
        folder = self.settings.rsa.rsa_save
        name = "rsa.json" if self.prompts == 1 else f"rsa-{number + 1}.json"
        return None if folder is None else folder.expanduser() / name

    def _report(self, number: int, event: RsaEvent) -> None:
        if self.settings.format == "jsonl" and (value := _event_json(event)) is not None:
            write_json({"event": value.pop("event"), "prompt": number, **value})

    def _show(self, number: int, answered: _Answered) -> None:
        result = answered.watched.result
        if self.settings.format == "text":
            shows_thinking = self.settings.generation.thinking
            if shows_thinking == "stderr" or (shows_thinking == "show" and sys.stdout.isatty()):
                self.console.print(result.thinking, style="dim")
            write_answer(("\n" if number else "") + result.text.strip("\n") + "\n")
        elif self.settings.format == "jsonl":
            write_json({"event": "finished", "prompt": number, **self._as_json(answered)})
        if not self.settings.quiet:
            ending = "" if result.is_complete else " (ended early)"
            self.console.print(agreement_line(result) + ending, style="dim")
        if self.settings.stats:
            self.console.print(_stats_line(answered), style="dim")

    def close(self) -> None:
        """Write what was kept back for the end."""
        if self.settings.format == "json" and self.answered:
            values = [self._as_json(answered) for answered in self.answered]
            write_json(values[0] if self.prompts == 1 else values)
        if self.settings.stats:
            self.console.print(self.source.summary, style="dim")

    def _as_json(self, answered: _Answered) -> dict[str, Any]:
        """The fields of a plain run, and `rsa`."""
        result = answered.watched.result
        value: dict[str, Any] = {
            "text": result.text,
            "thinking": result.thinking,
            "finish_reason": _finish_reason(answered),
            "usage": {
                name: sum(getattr(rollout, name) for rollout in result.rollouts)
                for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "thinking_tokens")
            }
            | ({"is_estimate": True} if any(rollout.is_estimate for rollout in result.rollouts) else {}),
            "timings": self._timings(answered),
            "seed": answered.seed,
            "model": self.source.name,
            "quant": None,
            **self.source.placement,
            "rsa": _rsa_json(result),
        }
        if self.prompts > 1 or answered.prompt.source not in (None, "-"):
            value["prompt_file"] = answered.prompt.source
        return value

    def _timings(self, answered: _Answered) -> dict[str, float]:
        rollouts = answered.watched.result.rollouts
        tokens = sum(rollout.completion_tokens for rollout in rollouts)
        prompt_seconds = sum(rollout.prompt_seconds for rollout in rollouts)
        prefilled = sum(rollout.prompt_tokens - rollout.cached_tokens for rollout in rollouts)
        decode_seconds = max(0.0, answered.seconds - prompt_seconds)
        return {
            "load_seconds": round(self.source.load_seconds, 3),
            "prompt_seconds": round(prompt_seconds, 4),
            "prompt_tokens_per_second": round(prefilled / prompt_seconds, 2) if prompt_seconds else 0.0,
            "seconds_to_first_token": round(answered.seconds_to_first_token, 4),
            "decode_seconds": round(decode_seconds, 4),
            "decode_tokens_per_second": round(tokens / decode_seconds, 2) if decode_seconds else 0.0,
            "peak_memory_bytes": self.source.peak_memory_bytes(),
        }


def _finish_reason(answered: _Answered) -> str:
    if answered.watched.stopped_by is not None:
        return "cancelled"
    return "length" if answered.watched.result.choice.rollout.answer_was_cut else "stop"


def _rsa_json(result: RsaResult) -> dict[str, Any]:
    choice = result.choice
    return {
        "settings": asdict(result.params),
        "stage": result.stage,
        "candidate": choice.rollout.candidate,
        "answer": None if choice.answer is None else choice.answer.text,
        "agreeing": choice.agreeing,
        "of": choice.total,
        "is_complete": result.is_complete,
        "error": result.error,
        "candidates": [_rollout_json(rollout) for rollout in result.rollouts],
    }


def _rollout_json(rollout: Any) -> dict[str, Any]:
    answer = answer_of(rollout)
    return {**rollout.as_json(), "extracted": None if answer is None else answer.normal}


def _event_json(event: RsaEvent) -> dict[str, Any] | None:
    if isinstance(event, RunStarted):
        return {"event": "rsa_started", "settings": asdict(event.params), "restored": event.restored}
    if isinstance(event, BudgetsShrank):
        return {"event": "budgets_shrank", "settings": asdict(event.params), "context": event.context}
    if isinstance(event, RolloutStarted):
        return {"event": "rollout_started", "stage": event.stage, "candidate": event.candidate}
    if isinstance(event, RolloutFinished):
        return {"event": "rollout_finished", **_rollout_json(event.rollout)}
    if isinstance(event, StageFinished):
        return {"event": "stage_finished", "stage": event.stage, "agreeing": event.choice.agreeing}
    return None


def _stats_line(answered: _Answered) -> str:
    rollouts = answered.watched.result.rollouts
    tokens = sum(rollout.completion_tokens for rollout in rollouts)
    prompts = sum(rollout.prompt_tokens for rollout in rollouts)
    cached = sum(rollout.cached_tokens for rollout in rollouts)
    about = "~" if any(rollout.is_estimate for rollout in rollouts) else ""
    return (
        f"{len(rollouts)} rollouts · prompts {about}{prompts:,} tokens ({cached:,} reused) · "
        f"generated {about}{tokens:,} tokens ({tokens / answered.seconds:.1f} tok/s) · {answered.seconds:.1f} s · "
        f"seed {answered.seed}"
    )
