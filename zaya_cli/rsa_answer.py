"""One question answered by Markovian RSA, watched on stderr; for `zaya run --rsa` and for `/rsa` in a chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zaya_cli.failures import Interrupted
from zaya_cli.interrupt import stopping
from zaya_cli.rsa_view import RsaView
from zaya_core.errors import NetworkError
from zaya_core.rsa import RsaParams, RsaResult, solve
from zaya_core.rsa.events import RsaEvent
from zaya_core.rsa.rollouts import Generator, Rollout

if TYPE_CHECKING:
    from rich.console import Console

    from zaya_cli.generation import GenerationSettings
    from zaya_core.engine import Engine
    from zaya_core.sampling import SamplingParams


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
) -> WatchedResult:
    """Answer a conversation that ends in a user's message, on an Engine that is idle.

    What `/rsa 8` needs: the table is shown on `console`; Ctrl-C once ends the run with the best answer so far
    (`stopped_by`), twice leaves the program. `result.text` is the answer, `result.thinking` the chosen candidate's
    thinking, `result.choice` says how many agree (`agreement_line`). The Engine is idle again afterwards.

    Raises: UsageError for fewer than one candidate; PromptTooLongError when the conversation leaves no room for tails;
    Interrupted when it was stopped before anything was written.
    """
    from zaya_cli.rsa_options import rsa_sampling
    from zaya_core.rsa.local import EngineGenerator

    params = RsaParams(candidates=candidates)
    generator = EngineGenerator(engine, settings.stop)
    return watch(generator, messages, params, rsa_sampling(settings, seed), RsaView(console, quiet))


def watch(
    generator: Generator,
    messages: Sequence[Mapping[str, str]],
    params: RsaParams,
    sampling: SamplingParams,
    view: RsaView,
    restored: Sequence[Rollout] = (),
    save: Callable[[Sequence[Rollout]], Any] = lambda rollouts: None,
    on_event: Callable[[RsaEvent], None] = lambda event: None,
) -> WatchedResult:
    """`solve` with a view, and with Ctrl-C as a request to finish. Raises what `solve` does, and Interrupted."""

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
            )
        except NetworkError:
            if stop.exit_code is not None:
                raise Interrupted(stop.exit_code) from None
            raise
        finally:
            view.close()
    return WatchedResult(result, stop.exit_code)


def agreement_line(result: RsaResult) -> str:
    """How the answer was chosen, for people: `6 of 8 agree on 47`."""
    choice = result.choice
    stage = f"after {'the first attempts' if result.stage == 0 else f'round {result.stage}'}"
    if choice.answer is None:
        return f"no answers to compare {stage}; the likeliest of {choice.total} candidates"
    answer = " ".join(choice.answer.text.split())
    shown = answer if len(answer) <= 60 else answer[:59] + "…"
    if result.params.select == "aggregate" and result.stage > result.params.rounds:
        return f"one more attempt over {len(choice.rollout.subset)} candidates gives {shown}"
    return f"{choice.agreeing} of {choice.total} agree on {shown} {stage}"
