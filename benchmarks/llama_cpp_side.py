"""llama.cpp by its C interface, as the other side of a comparison: ids in, no text, no choice of tokens.

Needs the package `llama-cpp-python`. Settings are llama.cpp's defaults but for the lengths, the threads and a batch of
512 tokens: it repacks Q4_0 for the processor, and chooses itself whether attention is fused.
"""

from __future__ import annotations

import ctypes
import random
import time
from collections.abc import Sequence
from pathlib import Path

import llama_cpp

_CHUNK = 512


_say_nothing = llama_cpp.llama_log_callback(lambda level, text, data: None)  # lives as long as llama.cpp calls it


class LlamaModel:
    """A loaded GGUF file."""

    def __init__(self, path: Path, threads: int):
        """Raises OSError if llama.cpp does not take the file."""
        self.threads = threads
        llama_cpp.llama_log_set(_say_nothing, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        settings = llama_cpp.llama_model_default_params()
        settings.n_gpu_layers = 0
        self.handle = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
        if not self.handle:
            raise OSError(f"llama.cpp does not load {path}: delete it, it is then written again.")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.handle))


class LlamaCase:
    """One thing to measure. State: a context of its own, filled up to `depth` positions of each row."""

    def __init__(self, model: LlamaModel, kind: str, tokens: int, batch: int, depth: int, seed: int = 0):
        """tokens: of each row."""
        self.model, self.kind, self.tokens, self.rows = model, kind, tokens, batch
        self.depth = depth if kind == "prefill" else max(depth, 1)
        self._random = random.Random(seed)
        settings = llama_cpp.llama_context_default_params()
        settings.n_seq_max = batch
        settings.n_ctx = batch * -(-(self.depth + tokens) // 256) * 256
        settings.n_batch = settings.n_ubatch = max(_CHUNK, batch)
        settings.n_threads = settings.n_threads_batch = model.threads
        self._context = llama_cpp.llama_init_from_model(model.handle, settings)
        if not self._context:
            raise MemoryError("llama.cpp makes no context: close other programs.")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(max(_CHUNK, batch), 0, 1)
        for row in range(batch):
            self._prefill(row, 0, self.depth)
        self.run(warm_up=True)

    def run(self, warm_up: bool = False) -> float:
        """Seconds of one run from the same beginning; a warm-up is cut to one chunk, or to 8 tokens."""
        for row in range(self.rows):
            llama_cpp.llama_memory_seq_rm(self._memory, row, self.depth, -1)
        tokens = min(self.tokens, _CHUNK if self.kind == "prefill" else 8) if warm_up else self.tokens
        started = time.perf_counter()
        if self.kind == "prefill":
            for row in range(self.rows):
                self._prefill(row, self.depth, tokens)
        else:
            for position in range(self.depth, self.depth + tokens):
                self._decode([(row, position, True) for row in range(self.rows)])
        llama_cpp.llama_synchronize(self._context)
        return time.perf_counter() - started

    def _prefill(self, row: int, first: int, tokens: int) -> None:
        last = first + tokens - 1
        for start in range(first, first + tokens, _CHUNK):
            stop = min(start + _CHUNK, last + 1)
            self._decode([(row, position, position == last) for position in range(start, stop)])

    def _decode(self, places: Sequence[tuple[int, int, bool]]) -> None:
        """Compute random ids at these (row, position, wants logits)."""
        batch = self._batch
        batch.n_tokens = len(places)
        for i, (row, position, wants_logits) in enumerate(places):
            batch.token[i] = self._random.randrange(self.model.vocabulary)
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = row
            batch.logits[i] = wants_logits
        if code := llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode returned {code} for {len(places)} tokens")
        if any(wanted for _, _, wanted in places):
            llama_cpp.llama_get_logits(self._context)  # waits for them, as whoever chooses a token does
