"""`zaya run`: answer prompts once and leave. The command that is meant for pipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zaya_cli.answer.answer import Answer
from zaya_cli.answer.prompts import Prompt, collect_prompts, messages_of
from zaya_cli.answer.writers import writer_for
from zaya_cli.failures import Interrupted, exit_code_of, sentence_of
from zaya_cli.flags.run import RunSettings
from zaya_cli.runtime import open_runtime
from zaya_cli.terminal.interrupt import stopping
from zaya_cli.terminal.output import write_note
from zaya_core.errors import UsageError

if TYPE_CHECKING:
    from zaya_core.engine.engine import Engine
    from zaya_core.sampling.params import SamplingParams


def run(settings: RunSettings) -> None:
    """Answer every prompt, in the order in which they were given.

    One that fails does not keep the others from being answered. Raises: the error of an only prompt; with several, each
    told on stderr, SystemExit with the exit code of the first that failed; Interrupted after Ctrl-C, when the partial
    answers have been shown.
    """
    if settings.logprobs is not None and settings.format == "text":
        raise UsageError("--logprobs are written as JSON only: add --format json or jsonl.")
    if settings.rsa.is_wanted:
        from zaya_cli.rsa.run import run_rsa

        run_rsa(settings)
    else:
        _run_plainly(settings)


def _run_plainly(settings: RunSettings) -> None:
    prompts = collect_prompts(settings.files or (), settings.prompt)
    runtime = open_runtime(settings.runtime)
    sampling = settings.generation.sampling(runtime.folder)
    ids = _submit(settings, runtime.engine, prompts, sampling)
    answers = {id_: Answer(prompt) for id_, prompt in zip(ids, prompts, strict=True)}
    writer = writer_for(settings, runtime, list(answers.values()), sampling.seed)
    try:
        with stopping(on_first=lambda: runtime.engine.cancel(*ids)) as stop:
            for event in runtime.engine.events(ids):
                answers[event.request_id].take(event)
                writer.take(answers[event.request_id], event)
    finally:
        writer.close()  # what is finished is not lost to an error in what is not
    if stop.exit_code is not None:
        raise Interrupted(stop.exit_code)
    _end_with_failures(list(answers.values()))


def _submit(settings: RunSettings, engine: Engine, prompts: Sequence[Prompt], sampling: SamplingParams) -> list[int]:
    """Ask all at once, when all are known to be possible -> the requests' ids."""
    requests = [
        settings.generation.request(
            engine.tokenizer, messages_of(settings.system, prompt), sampling, candidate, settings.logprobs or 0
        )
        for candidate, prompt in enumerate(prompts)
    ]
    return [engine.submit(request) for request in requests]


def _end_with_failures(answers: list[Answer]) -> None:
    failures = [(answer.prompt.source, answer.failed.error) for answer in answers if answer.failed is not None]
    if failures and len(answers) == 1:
        raise failures[0][1]
    for source, error in failures:
        write_note(f"zaya: {source}: {sentence_of(error)}")
    if failures:
        raise SystemExit(exit_code_of(failures[0][1]))
