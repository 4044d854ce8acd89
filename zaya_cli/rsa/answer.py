"""One question answered by Markovian RSA, watched on stderr; for `zaya run --rsa` and for `/rsa` in a chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zaya_cli.failures import INTERRUPTED, Interrupted
from zaya_cli.rsa.sampling import rsa_sampling
from zaya_cli.rsa.view import RsaView
from zaya_cli.terminal.interrupt import stopping
from zaya_core.errors import GenerationError, NetworkError
from zaya_core.rsa import RsaParams, RsaResult, solve
from zaya_core.rsa.events import RsaEvent
from zaya_core.rsa.prompt import ATTEMPTS, Prompt, aggregation_of
from zaya_core.rsa.rollouts import Generator, Rollout

if TYPE_CHECKING:
    from rich.console import Console

    from zaya_cli.flags.generation import GenerationSettings
    from zaya_core.checkpoint.folder import ModelFolder
    from zaya_core.engine.engine import Engine
    from zaya_core.sampling.params import SamplingParams


NO_ANSWER = "No candidate came to an answer: give them more tokens (--rsa-think, --rsa-answer), or try another --seed."


@dataclass(frozen=True)
class WatchedResult:
    """A result, and the exit code of the signal that ended the run early, None without one."""

    result: RsaResult
    stopped_by: int | None


def answer_with_rsa(
    engine: Engine,
    messages: Sequence[Mapping[str, str]],
    candidates: int,
    settings: GenerationSettings,
    seed: int,
    console: Console,
    quiet: bool = False,
    folder: ModelFolder | None = None,
) -> WatchedResult:
    """Answer a conversation that ends in a user's message, on an Engine that is idle.

    What `/rsa 8` needs: the table is shown on `console`; Ctrl-C once ends the run with the best answer so far
    (`stopped_by`), twice leaves the program. `result.text` is the answer, `result.thinking` the chosen candidate's
    thinking, `result.choice` says how many agree (`agreement_line`). The Engine is idle again afterwards.

    folder: the model's; without it what it is shown is worded for the bundled one.

    Raises: UsageError for fewer than one candidate; PromptTooLongError when the conversation leaves no room for tails;
    KeyboardInterrupt when Ctrl-C stopped it before there was an answer, Interrupted for another signal; GenerationError
    when no candidate came to an answer.
    """
    from zaya_core.rsa.local import EngineGenerator

    aggregation = ATTEMPTS if folder is None else aggregation_of(folder)
    params = RsaParams(candidates=candidates, passes=aggregation.passes)
    generator, view = EngineGenerator(engine, settings.stop_texts), RsaView(console, quiet)
    try:
        watched = watch(generator, messages, params, rsa_sampling(settings, seed), view, prompt=aggregation.prompt)
    except Interrupted as error:
        if error.exit_code == INTERRUPTED:
            raise KeyboardInterrupt from None  # the conversation goes on
        raise
    if not watched.result.text.strip():
        raise watched.result.cause or GenerationError(watched.result.error or NO_ANSWER)
    return watched


def watch(
    generator: Generator,
    messages: Sequence[Mapping[str, str]],
    params: RsaParams,
    sampling: SamplingParams,
    view: RsaView,
    restored: Sequence[Rollout] = (),
    save: Callable[[Sequence[Rollout]], Any] = lambda rollouts: None,
    on_event: Callable[[RsaEvent], None] = lambda event: None,
    prompt: Prompt = ATTEMPTS.prompt,
    last_sampling: SamplingParams | None = None,
) -> WatchedResult:
    """`solve` with a view, and with Ctrl-C as a request to finish.

    Raises what `solve` does, and Interrupted, after a sentence, when it was stopped and there is no answer yet.
    """

    def take(event: RsaEvent) -> None:
        on_event(event)
        view.take(event)

    with stopping(on_first=lambda: None) as stop:
        try:
            result = solve(
                generator,
                messages,
                params,
                sampling,
                on_event=take,
                should_stop=lambda: stop.exit_code is not None,
                restored=restored,
                save=save,
                prompt=prompt,
                last_sampling=last_sampling,
            )
        except NetworkError:
            if stop.exit_code is None:
                raise
            result = None
        finally:
            view.close()
    if stop.exit_code is not None and (result is None or not result.text.strip()):
        view.console.print("zaya: No candidate has come to an answer: there is no answer yet.")
        raise Interrupted(stop.exit_code)
    assert result is not None
    return WatchedResult(result, stop.exit_code)


def agreement_line(result: RsaResult) -> str:
    """How the answer was chosen, for people: `6 of 8 agree on 47 after round 2`."""
    return _agreement(result) + ("" if result.is_complete else " (ended early)")


def _agreement(result: RsaResult) -> str:
    choice = result.choice
    stage = f"after {'the first attempts' if result.stage == 0 else f'round {result.stage}'}"
    if result.is_complete and result.params.stop_at is None and result.stage < result.params.last_stage:
        stage += "; what came later gave no answer"
    if not result.text.strip():
        return f"no candidate has come to an answer {stage}"
    if choice.answer is None:
        return f"no answers to compare {stage}; the likeliest of {choice.total} candidates"
    answer = " ".join(choice.answer.text.split())
    shown = answer if len(answer) <= 60 else answer[:59] + "…"
    if result.params.select == "aggregate" and result.stage > result.params.rounds:
        return f"one more attempt over {len(choice.rollout.subset)} candidates gives {shown}"
    if choice.total == 1:
        return f"the one candidate gives {shown} {stage}"
    if choice.agreeing == 1:
        which = "first" if result.params.select == "first" else "likeliest"
        return f"No two candidates agree {stage}; the {which} answer is {shown}"
    return f"{choice.agreeing} of {choice.total} agree on {shown} {stage}"
