"""`zaya run --rsa`: answer prompts by Markovian RSA, one after another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zaya_cli.answer.prompts import Prompt, collect_prompts, messages_of
from zaya_cli.answer.render import shows_thinking
from zaya_cli.failures import INTERRUPTED, Interrupted
from zaya_cli.flags.run import RunSettings
from zaya_cli.rsa.answer import NO_ANSWER, agreement_line, watch
from zaya_cli.rsa.answered import Answered, event_json
from zaya_cli.rsa.generator import Source, open_source
from zaya_cli.rsa.sampling import aggregate_sampling, rsa_sampling
from zaya_cli.rsa.view import RsaView
from zaya_cli.terminal.output import stderr_console, write_answer, write_json, write_note, write_thinking
from zaya_cli.terminal.visible import one_line
from zaya_cli.user_files import from_home
from zaya_core.errors import GenerationError, NetworkError, UsageError, ZayaError
from zaya_core.rsa import RsaParams
from zaya_core.rsa.events import RsaEvent
from zaya_core.rsa.prompt import Aggregation, aggregation_of
from zaya_core.rsa.rollouts import Rollout
from zaya_core.rsa.saved import alone_in, restore_rollouts, save_rollouts, saved_seed
from zaya_core.text.surrogates import without_surrogates

if TYPE_CHECKING:
    from zaya_core.rsa.prompt_file import PromptFile
    from zaya_core.sampling.params import SamplingParams


def run_rsa(settings: RunSettings) -> None:
    """Answer every prompt; Ctrl-C ends the current one with the best answer so far, and with it the command.

    Raises: Interrupted, also without any answer; NetworkError, or what the Engine raised, after an answer that a
    failure cut short; GenerationError when there is nothing to show; UsageError after an answer whose state was not
    saved.
    """
    prompts = collect_prompts(settings.files or (), settings.prompt)
    settings.rsa.params()  # refused before anything is loaded
    if settings.logprobs is not None:
        raise UsageError("--logprobs does not go with --rsa: --format json has each candidate's mean log-probability.")
    rsa_sampling(settings.generation, 0)
    own_prompt = settings.rsa.own_prompt()
    folder = settings.rsa.rsa_save
    with nullcontext() if folder is None else alone_in(from_home(folder)):
        _answer_all(settings, prompts, own_prompt)


def _answer_all(settings: RunSettings, prompts: list[Prompt], own_prompt: PromptFile | None) -> None:
    source = open_source(settings.runtime, settings.rsa, settings.generation.stop_texts)
    aggregation = aggregation_of(source.folder)
    if own_prompt is not None:
        aggregation = replace(aggregation, name=own_prompt.source, prompt=own_prompt)
    run = _Run(settings, source, aggregation, len(prompts))
    for note in source.notes:
        write_note(f"zaya: {note}")
    try:
        for number, prompt in enumerate(prompts):
            run.answer(number, prompt)
    finally:
        run.close()


class _Run:
    """State: the answers so far, for `--format json`; why a state could not be saved."""

    def __init__(self, settings: RunSettings, source: Source, aggregation: Aggregation, prompts: int):
        self.settings = settings
        self.source = source
        self.aggregation = aggregation
        self.prompts = prompts
        self.console = stderr_console(settings.color)
        self.answered: list[Answered] = []
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

    def _solve(self, number: int, prompt: Prompt) -> Answered:
        started = time.perf_counter()
        path = self._saved_file(number)
        seed, messages = self._seed(path), self._messages(prompt)
        params, sampling = self.settings.rsa.params(self.aggregation), rsa_sampling(self.settings.generation, seed)
        last_sampling = aggregate_sampling(self.settings.generation, seed) if params.select == "aggregate" else None
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
        return Answered(prompt, watched, len(restored), seed, seconds, view.seconds_to_first_token)

    def _seed(self, path: Path | None) -> int:
        """That of --seed, else that of the saved state, else a new one."""
        seed = self.settings.generation.seed
        if seed is None and path is not None:
            seed = saved_seed(path)
        return self.settings.generation.seed_or_random() if seed is None else seed

    def _messages(self, prompt: Prompt) -> list[dict[str, str]]:
        """As the tokenizer reads them: neither a server nor a saved state takes what is no UTF-8."""
        messages = messages_of(self.settings.system, prompt)
        return [{**message, "content": without_surrogates(message["content"])} for message in messages]

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
        if self.settings.format == "jsonl" and (value := event_json(event)) is not None:
            write_json({"event": value.pop("event"), "prompt": number, **value})

    def _show(self, number: int, answered: Answered) -> None:
        result = answered.watched.result
        if self.settings.format == "text" and result.text.strip():
            if shows_thinking(self.settings.generation.thinking):
                write_thinking(self.console, result.thinking + "\n")
            write_answer(("\n" if number else "") + result.text.strip("\n") + "\n", is_whole=True)
        elif self.settings.format == "jsonl":
            value = answered.as_json(self.source, self.prompts > 1)
            write_json({"event": "finished", "prompt": number, **value}, is_whole=True)
        if not self.settings.quiet:
            self.console.print(agreement_line(result), style="dim")
        if self.settings.stats:
            self.console.print(answered.stats_line(), style="dim")

    def close(self) -> None:
        """Write what was kept back for the end."""
        if self.settings.format == "json" and self.answered:
            values = [answered.as_json(self.source, self.prompts > 1) for answered in self.answered]
            write_json(values[0] if self.prompts == 1 else values, is_whole=True)
        if self.settings.stats:
            self.console.print(self.source.summary, style="dim")
