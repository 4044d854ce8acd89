"""`zaya run --rsa`: answer prompts by Markovian RSA, one after another."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zaya_cli.answer.answer_json import USAGE, answer_json, timings_json
from zaya_cli.answer.prompts import Prompt, collect_prompts
from zaya_cli.failures import INTERRUPTED, Interrupted
from zaya_cli.rsa.answer import NO_ANSWER, WatchedResult, agreement_line, watch
from zaya_cli.rsa.generator import Source, open_source
from zaya_cli.rsa.options import aggregate_sampling, rsa_sampling
from zaya_cli.rsa.view import RsaView
from zaya_cli.terminal.output import stderr_console, write_answer, write_json, write_note, write_thinking
from zaya_cli.terminal.visible import one_line
from zaya_cli.user_files import from_home
from zaya_core.errors import GenerationError, NetworkError, ZayaError
from zaya_core.rsa import RsaParams, RsaResult
from zaya_core.rsa.events import BudgetsShrank, RsaEvent, RunStarted, StageFinished
from zaya_core.rsa.prompt import Aggregation, aggregation_of
from zaya_core.rsa.rollouts import Rollout, RolloutFinished, RolloutStarted
from zaya_core.rsa.saved import alone_in, restore_rollouts, save_rollouts, saved_seed
from zaya_core.rsa.selection import answer_of
from zaya_core.text.surrogates import without_surrogates

if TYPE_CHECKING:
    from zaya_cli.commands.run import RunSettings
    from zaya_core.rsa.prompt_file import PromptFile
    from zaya_core.sampling.sampler import SamplingParams


def run(settings: RunSettings) -> None:
    """Answer every prompt; Ctrl-C ends the current one with the best answer so far, and with it the command.

    Raises: Interrupted, also without any answer; NetworkError, or what the Engine raised, after an answer that a
    failure cut short; GenerationError when there is nothing to show; UsageError after an answer whose state was not
    saved.
    """
    prompts = collect_prompts(settings.files, settings.text)
    settings.rsa.params()  # refused before anything is loaded
    rsa_sampling(settings.generation, 0)
    own_prompt = settings.rsa.own_prompt()
    folder = settings.rsa.rsa_save
    with nullcontext() if folder is None else alone_in(from_home(folder)):
        _answer_all(settings, prompts, own_prompt)


def _answer_all(settings: RunSettings, prompts: list[Prompt], own_prompt: PromptFile | None) -> None:
    source = open_source(settings.runtime, settings.rsa, settings.generation.stop)
    aggregation = aggregation_of(source.folder)
    if own_prompt is not None:
        aggregation = replace(aggregation, name=own_prompt.source, prompt=own_prompt)
    command = _Command(settings, source, aggregation, len(prompts))
    for note in source.notes:
        write_note(f"zaya: {note}")
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
    restored: int  # rollouts of an earlier run, which come first
    seed: int
    seconds: float
    seconds_to_first_token: float

    @property
    def fresh(self) -> Sequence[Rollout]:
        """The rollouts of this run."""
        return self.watched.result.rollouts[self.restored :]


class _Command:
    """State: the answers so far, for `--format json`; why a state could not be saved."""

    def __init__(self, settings: RunSettings, source: Source, aggregation: Aggregation, prompts: int):
        self.settings = settings
        self.source = source
        self.aggregation = aggregation
        self.prompts = prompts
        self.console = stderr_console(settings.color)
        self.answered: list[_Answered] = []
        self.unsaved: ZayaError | None = None

    def answer(self, number: int, prompt: Prompt) -> None:
        """Run one prompt and show its answer. Raises what kept it from being whole."""
        if self.prompts > 1 and not self.settings.quiet:
            self.console.print(one_line(f"== {prompt.source}"), style="bold")
        answered = self._solve(number, prompt)
        self.answered.append(answered)
        self._show(number, answered)
        stopped_by, result = answered.watched.stopped_by, answered.watched.result
        has_more = number + 1 < self.prompts
        if stopped_by is not None and (stopped_by != INTERRUPTED or has_more):
            raise Interrupted(stopped_by)
        if result.error is not None:
            raise result.cause or NetworkError(result.error)
        if not result.text.strip():
            raise GenerationError(NO_ANSWER)
        if self.unsaved is not None:
            raise self.unsaved

    def _solve(self, number: int, prompt: Prompt) -> _Answered:
        flags, started = self.settings.rsa, time.perf_counter()
        path = self._saved_file(number)
        seed = self.settings.generation.seed
        if seed is None and path is not None:
            seed = saved_seed(path)
        seed = self.settings.generation.seed_or_random() if seed is None else seed
        params, sampling = flags.params(self.aggregation), rsa_sampling(self.settings.generation, seed)
        last_sampling = aggregate_sampling(self.settings.generation, seed) if params.select == "aggregate" else None
        texts = (("system", self.settings.system), ("user", prompt.text))
        # As the tokenizer reads them: neither a server nor a saved state takes what is no UTF-8.
        messages = [{"role": role, "content": without_surrogates(text)} for role, text in texts if text]
        identity = self._identity(messages, params, sampling, last_sampling)
        restored = () if path is None else restore_rollouts(path, identity)
        view = RsaView(self.console, self.settings.quiet)
        watched = watch(
            self.source.generator,
            messages,
            params,
            sampling,
            view,
            restored=restored,
            save=lambda rollouts: self._save(path, identity, rollouts),
            on_event=lambda event: self._report(number, event),
            prompt=self.aggregation.prompt,
            last_sampling=last_sampling,
        )
        seconds = time.perf_counter() - started
        return _Answered(prompt, watched, len(restored), seed, seconds, view.seconds_to_first_token)

    def _identity(
        self, messages: Any, params: RsaParams, sampling: SamplingParams, last_sampling: SamplingParams | None
    ) -> dict[str, Any]:
        """What decides the result. None stands for how it was before there was a choice, as in files of that time."""
        settings = asdict(params)
        passes = settings.pop("passes")
        return {
            "seed": sampling.seed, "messages": messages, "settings": settings, "sampling": asdict(sampling),
            "model": self.source.name, **self.source.placement, "context": self.source.generator.context,
            "quant": self.source.quant, "pass": None if passes == "tail" else passes, "prompt": self.aggregation.name,
            "last sampling": last_sampling and asdict(last_sampling),
        }  # fmt: skip

    def _save(self, path: Path | None, identity: dict[str, Any], rollouts: Sequence[Rollout]) -> None:
        """What cannot be saved is told at once, and the run goes on: its answer is worth more than its state."""
        try:
            if path is not None:
                save_rollouts(path, identity, rollouts)
        except ZayaError as error:
            self.unsaved = error
            write_note(f"zaya: {error} The run goes on.")

    def _saved_file(self, number: int) -> Path | None:
        folder = self.settings.rsa.rsa_save
        name = "rsa.json" if self.prompts == 1 else f"rsa-{number + 1}.json"
        return None if folder is None else from_home(folder) / name

    def _report(self, number: int, event: RsaEvent) -> None:
        if self.settings.format == "jsonl" and (value := _event_json(event)) is not None:
            write_json({"event": value.pop("event"), "prompt": number, **value})

    def _show(self, number: int, answered: _Answered) -> None:
        result = answered.watched.result
        if self.settings.format == "text" and result.text.strip():
            shows_thinking = self.settings.generation.thinking
            if shows_thinking == "stderr" or (shows_thinking == "show" and sys.stdout.isatty()):
                write_thinking(self.console, result.thinking + "\n")
            write_answer(("\n" if number else "") + result.text.strip("\n") + "\n", is_whole=True)
        elif self.settings.format == "jsonl":
            write_json({"event": "finished", "prompt": number, **self._as_json(answered)}, is_whole=True)
        if not self.settings.quiet:
            self.console.print(agreement_line(result), style="dim")
        if self.settings.stats:
            self.console.print(_stats_line(answered), style="dim")

    def close(self) -> None:
        """Write what was kept back for the end."""
        if self.settings.format == "json" and self.answered:
            values = [self._as_json(answered) for answered in self.answered]
            write_json(values[0] if self.prompts == 1 else values, is_whole=True)
        if self.settings.stats:
            self.console.print(self.source.summary, style="dim")

    def _as_json(self, answered: _Answered) -> dict[str, Any]:
        """The fields of a plain run, and `rsa`."""
        result = answered.watched.result
        value = answer_json(
            text=result.text,
            thinking=result.thinking,
            finish_reason=_finish_reason(answered),
            usage={name: sum(getattr(rollout, name) for rollout in result.rollouts) for name in USAGE},
            timings=self._timings(answered),
            seed=answered.seed,
            model=self.source.name,
            quant=self.source.quant,
            placement=self.source.placement,
            prompt=answered.prompt,
            is_one_of_many=self.prompts > 1,
        )
        if any(rollout.is_estimate for rollout in result.rollouts):
            value["usage"]["is_estimate"] = True
        return {**value, "rsa": _rsa_json(result)}

    def _timings(self, answered: _Answered) -> dict[str, float]:
        tokens = sum(rollout.completion_tokens for rollout in answered.fresh)
        prompt_seconds = sum(rollout.prompt_seconds for rollout in answered.fresh)
        prefilled = sum(rollout.prompt_tokens - rollout.cached_tokens for rollout in answered.fresh)
        decode_seconds = max(0.0, answered.seconds - prompt_seconds)
        return timings_json(
            load=self.source.load_seconds,
            prompt=prompt_seconds,
            prompt_rate=prefilled / prompt_seconds if prompt_seconds else 0.0,
            first_token=answered.seconds_to_first_token,
            decode=decode_seconds,
            decode_rate=tokens / decode_seconds if decode_seconds else 0.0,
            peak_memory=self.source.peak_memory_bytes(),
        )


def _finish_reason(answered: _Answered) -> str:
    if answered.watched.stopped_by is not None:
        return "cancelled"
    result = answered.watched.result
    return "length" if result.choice.rollout.answer_was_cut or not result.text.strip() else "stop"


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
