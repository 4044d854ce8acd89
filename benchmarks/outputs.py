"""Digests of all that one build computes with one model: logits bit by bit, and the Engine's answers.

    python benchmarks/outputs.py FOLDER [--threads 2]

Run as a file with another commit's tree in front of sys.path: it imports only `zaya_core`, by the names that every
commit has, and nothing of this folder. The last line is JSON, the digest by the case's name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zaya_core

PROMPT = 300
CHUNKS = (128, 1, 127, 44)  # of the prompt; one has a single token
LENGTHS = (70, 33, 1)  # of the rows of a padded batch
ROWS = (1, 2, 5, 8, 16)
STEPS = 12
LOADED: dict[str, dict[str, Any]] = {"": {}, "int8 K/V, ": {"kv": "int8"}, "float32, ": {"dtype": "float32"}}
_COPIED = 2_000_000_000  # bytes of a model up to which it is also read as float32, which copies bf16 to twice the size
_TOLD = ("token_id", "logprob", "top_logprobs", "kind", "text", "reason", "stopped_by")  # fields of events

Cases = Iterator[tuple[str, str]]


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found: dict[str, str] = {}
    for prefix, settings in LOADED.items():
        if "dtype" in settings and _nbytes(arguments.folder) > _COPIED:
            continue
        model = zaya_core.load_model(arguments.folder, device="cpu", **settings)
        for cases in (prompts(model), steps(model), answers(model, arguments.folder)):
            found |= {prefix + name: value for name, value in cases}
    print(json.dumps(found))


def _nbytes(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))


def prompts(model: Any) -> Cases:
    """A prompt whole and in chunks, and rows of several lengths."""
    ids = _ids(model, 1, PROMPT)
    yield "a prompt in one pass", digest(model(ids))
    cache = model.new_cache(1)
    yield "a prompt in chunks", digest(*(model(part, cache, is_prompt=True) for part in ids.split(CHUNKS, 1)))
    rows = _ids(model, len(LENGTHS), max(LENGTHS))
    logits = model(rows, model.new_cache(len(LENGTHS)), lengths=LENGTHS)
    yield "a padded batch", digest(*(row[:length] for row, length in zip(logits, LENGTHS, strict=True)))
    last = model(rows, model.new_cache(len(LENGTHS)), lengths=LENGTHS, last_only=True)
    yield "the last tokens of a padded batch", digest(last)


def steps(model: Any) -> Cases:
    """Tokens one by one, of rows that are at different positions."""
    for rows in ROWS:
        lengths = [3 + 7 * row for row in range(rows)]
        ids = _ids(model, rows, max(lengths) + STEPS)
        cache = model.new_cache(rows)
        model(ids[:, : max(lengths)], cache, lengths=lengths, last_only=True)
        yield f"steps of {rows} rows", digest(*(model(ids[:, -1 - n, None], cache) for n in range(STEPS)))


def answers(model: Any, folder: str) -> Cases:
    """Ids, exact log-probabilities and texts of requests that run together and begin alike."""
    requests = {
        "greedy": _request(model, 0, temperature=0.0),
        "top-p": _request(model, 1, temperature=0.8, top_p=0.95, seed=11),
        "top-k, min-p": _request(model, 2, temperature=0.8, top_p=0.95, top_k=50, min_p=0.02, seed=12),
        "penalty": _request(model, 3, temperature=0.8, top_p=0.95, top_k=50, repetition_penalty=1.2, seed=13),
    }
    engine = zaya_core.Engine(model, zaya_core.load_tokenizer(folder))
    told: dict[int, list[Any]] = defaultdict(list)
    for event in engine.generate(list(requests.values())):
        told[event.request_id] += [(name, exact(getattr(event, name))) for name in _TOLD if hasattr(event, name)]
    for name, request_id in zip(requests, sorted(told), strict=True):
        yield f"an answer, {name}", hashlib.sha256(repr(told[request_id]).encode()).hexdigest()


def _request(model: Any, number: int, **sampling: Any) -> Any:
    ids = _ids(model, number + 1, 40)
    prompt = torch.cat([ids[0, :20], ids[number, 20:]]).tolist()  # alike up to there
    params = zaya_core.SamplingParams(**sampling)
    return zaya_core.Request(prompt, params, max_tokens=24, top_logprobs=5, ignore_stop_ids=True)


def _ids(model: Any, rows: int, columns: int) -> Tensor:
    """(rows, columns), the same in every build."""
    numbers = torch.arange(rows)[:, None] * 104_729 + torch.arange(columns) * 7_919 + 5
    return numbers % int(model.config.vocab_size)


def digest(*tensors: Tensor) -> str:
    """Of the bits of all numbers and the shapes."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        found.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def exact(value: Any) -> Any:
    """The same with floats as hexadecimal text."""
    if isinstance(value, tuple):
        return tuple(map(exact, value))
    return value.hex() if isinstance(value, float) else value


if __name__ == "__main__":
    main()
