"""How the candidates of Markovian RSA choose their tokens."""

from __future__ import annotations

from dataclasses import replace

from zaya_cli.flags.generation import GenerationSettings
from zaya_core.errors import UsageError
from zaya_core.sampling.params import SamplingParams

RSA_SAMPLING = SamplingParams(top_p=1.0)
AGGREGATE_SAMPLING = SamplingParams(temperature=0.6, top_p=0.95, top_k=40)


def rsa_sampling(settings: GenerationSettings, seed: int) -> SamplingParams:
    """The report's sampling for RSA, temperature 1, top-p 1 and min-p 1e-5, changed by flags. Raises UsageError.

    Raises it also for flags that RSA has its own of.
    """
    for flag, value in (("--max-tokens", settings.max_tokens), ("--thinking-budget", settings.thinking_budget)):
        if value is not None:
            raise UsageError(f"{flag} does not go with --rsa: use --rsa-think and --rsa-answer.")
    if settings.temperature == 0:
        raise UsageError(
            "--temperature 0 does not go with --rsa, whose candidates would all think the same: give a higher one, or "
            "leave it out."
        )
    if settings.thinking == "off":
        raise UsageError("--thinking off does not go with --rsa, which passes the thinking on.")
    settings.say_if_greedy_by_top_p()
    return replace(RSA_SAMPLING, seed=seed, **settings.given_sampling())


def aggregate_sampling(settings: GenerationSettings, seed: int) -> SamplingParams:
    """Of the one rollout that `--rsa-select aggregate` adds: as Zyphra's own script has it, changed by flags."""
    return replace(AGGREGATE_SAMPLING, seed=seed, **settings.given_sampling())
