"""The object that `--format json` prints for an answer, of a plain run and of RSA alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zaya_cli.sizes import dtype_name

if TYPE_CHECKING:
    from zaya_cli.answer.prompts import Prompt
    from zaya_cli.runtime import Runtime

USAGE = ("prompt_tokens", "cached_tokens", "completion_tokens", "thinking_tokens")


def answer_json(
    *,
    text: str,
    thinking: str,
    finish_reason: str,
    usage: Mapping[str, int],
    timings: Mapping[str, float],
    seed: int,
    model: str,
    quant: str | None,
    placement: Mapping[str, Any],
    prompt: Prompt,
    is_one_of_many: bool,
) -> dict[str, Any]:
    """usage: by the names in USAGE; placement: as `placement_of` has it."""
    return {
        "text": text,
        "thinking": thinking,
        "finish_reason": finish_reason,
        "usage": {name: usage[name] for name in USAGE},
        "timings": dict(timings),
        "seed": seed,
        "model": model,
        "quant": quant,
        **placement,
        **origin_json(prompt, is_one_of_many),
    }


def origin_json(prompt: Prompt, is_one_of_many: bool) -> dict[str, str | None]:
    """Which prompt this is about, where that is not plain."""
    return {"prompt_file": prompt.source} if is_one_of_many or prompt.source not in (None, "-") else {}


def timings_json(
    load: float,
    prompt: float,
    prompt_rate: float,
    first_token: float,
    decode: float,
    decode_rate: float,
    peak_memory: int,
) -> dict[str, float]:
    """Times in seconds, the two rates in tokens per second, memory in bytes."""
    return {
        "load_seconds": round(load, 3),
        "prompt_seconds": round(prompt, 4),
        "prompt_tokens_per_second": round(prompt_rate, 2),
        "seconds_to_first_token": round(first_token, 4),
        "decode_seconds": round(decode, 4),
        "decode_tokens_per_second": round(decode_rate, 2),
        "peak_memory_bytes": peak_memory,
    }


def quant_of(runtime: Runtime) -> str | None:
    """The format of the experts' weights, None for a model that is not quantized."""
    quantization = runtime.engine.model.config.quantization
    return None if quantization is None else quantization.experts


def placement_of(runtime: Runtime) -> dict[str, Any]:
    """Where and with what a model computes."""
    model = runtime.engine.model
    return {
        "device": str(model.device),
        "dtype": dtype_name(model.dtype),
        "threads": runtime.threads,
        **({"cpu_experts": runtime.cpu_experts} if runtime.cpu_experts else {}),
    }
