"""Figures of an answer: tokens by OpenAI's names, times by llama.cpp's, and our own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zaya_core.engine.events import Stats


def usage_json(prompts: Sequence[Stats], choices: Sequence[Stats]) -> dict[str, Any]:
    """prompts: of one choice of each prompt, since a prompt counts once; choices: of all."""
    prompt_tokens = sum(stats.prompt_tokens for stats in prompts)
    completion_tokens = sum(stats.completion_tokens for stats in choices)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(stats.cached_tokens for stats in prompts)},
        "completion_tokens_details": {"reasoning_tokens": sum(stats.thinking_tokens for stats in choices)},
    }


def timings_json(prompts: Sequence[Stats], choices: Sequence[Stats]) -> dict[str, float]:
    """Milliseconds, and tokens per second; of choices that ran side by side, the time of the longest."""
    prompt_n = sum(stats.prefilled_tokens for stats in prompts)
    prompt_ms = 1000 * sum(stats.prompt_seconds for stats in prompts)
    predicted_n = sum(stats.completion_tokens for stats in choices)
    predicted_ms = 1000 * max((stats.decode_seconds for stats in choices), default=0.0)
    return {
        "cache_n": sum(stats.cached_tokens for stats in prompts),
        **speed("prompt", prompt_n, prompt_ms),
        **speed("predicted", predicted_n, predicted_ms),
    }


def speed(name: str, tokens: int, milliseconds: float) -> dict[str, float]:
    """By llama.cpp's names, which begin with `name`."""
    return {
        f"{name}_n": tokens,
        f"{name}_ms": round(milliseconds, 3),
        f"{name}_per_token_ms": round(milliseconds / tokens, 3) if tokens else 0.0,
        f"{name}_per_second": round(1000 * tokens / milliseconds, 3) if milliseconds else 0.0,
    }
