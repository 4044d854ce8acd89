"""The Engine: an open batch of requests over one model.

Callers pass ids, never caches. A step is one prefill chunk of one prompt, or one token for all running rows, never
mixed. Beginnings that prompts have in common are prefilled once, kept as snapshots and forked.

Rows are admitted by the blocks that are in use, not by what they may come to need. When the pool is full, first kept
prefixes go that nobody shares, then a prompt that is being computed waits again, then the youngest row is parked in
host memory; parked rows go on, oldest first, before new ones begin.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from zaya_core.cache import Cache
from zaya_core.errors import PromptTooLongError, UsageError
from zaya_core.events import (
    Event,
    Finished,
    FinishReason,
    Parked,
    PrefillProgress,
    Stats,
    TextEvent,
    ThinkingEnded,
    TokenEvent,
    Unparked,
)
from zaya_core.known_ids import common_length
from zaya_core.kv_layout import BLOCK
from zaya_core.memory import peak_memory_bytes
from zaya_core.model import PREFILL_CHUNK, Cancelled, ZayaModel
from zaya_core.parking import ParkedCache
from zaya_core.prefix import Prefix, PrefixStore
from zaya_core.sampling import RandomKey, Sampler, SamplingParams
from zaya_core.stream import TextPiece, TextSplitter
from zaya_core.tokenizer import THINK_END, Tokenizer

_SHARED_AT_LEAST = 16  # a common beginning shorter than this is cheaper to compute again than to keep


@dataclass(frozen=True)
class Request:
    """One prompt and how to go on from it.

    max_tokens: None means up to the end of the context. thinking_budget: after so many thinking tokens `</think>` is
    forced. answer_budget: most tokens that are not thinking; 0 ends a request with its thinking. snapshot_at: prompt
    positions whose state is worth keeping for later prompts. keep_state: keep the state at the end, too. stage,
    candidate: with the seed, the key of the random numbers. ignore_stop_ids: for benchmarks.
    begun: tokens of the answer that are there already; it goes on as if this request had chosen them, so that an answer
    that was stopped and continued equals one that was not. max_tokens counts new tokens, thinking_budget all.
    """

    ids: Sequence[int]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    thinking_budget: int | None = None
    answer_budget: int | None = None
    top_logprobs: int = 0
    snapshot_at: tuple[int, ...] = ()
    keep_state: bool = False
    stage: int = 0
    candidate: int = 0
    ignore_stop_ids: bool = False
    begun: Sequence[int] = ()


class _Row:
    """A request on its way: its position in the prompt, then its generated tokens."""

    def __init__(self, request_id: int, request: Request, tokenizer: Tokenizer, max_tokens: int):
        self.id = request_id
        self.request = request
        self.prompt = [*request.ids, *request.begun]
        self.max_tokens = max_tokens
        self.splitter = TextSplitter(tokenizer, tokenizer.starts_in_thinking(request.ids), request.stop)
        self.thought_before = 0  # thinking tokens in `begun`
        for token_id in request.begun:
            self.thought_before += self.splitter.in_thinking
            self.splitter.push(token_id)
        key = RandomKey(request.sampling.seed, request.stage, request.candidate)
        self.sampler = Sampler(request.sampling, key, request.top_logprobs, tokenizer.unpenalised_ids)
        self.sampler.observe(*self.prompt)
        self.tokens: list[int] = []
        self.forced: list[int] = []
        self.cache: Cache | None = None
        self.parked: ParkedCache | None = None
        self.logits: Tensor | None = None  # (V), after `position`
        self.position = self.cached = 0
        self.cuts: tuple[int, ...] = ()
        self.completion_tokens = self.thinking_tokens = 0
        self.sampled_tokens, self.logprob_sum = 0, 0.0
        self.thinking_was_cut = False
        self.prompt_seconds = self.decode_seconds = 0.0
        self.submitted = time.perf_counter()
        self.seconds_to_first_token = 0.0
        self.is_finished = False

    def stats(self, peak_memory: int) -> Stats:
        return Stats(
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached,
            prefilled_tokens=self.position - self.cached,
            completion_tokens=self.completion_tokens,
            thinking_tokens=self.thinking_tokens,
            prompt_seconds=self.prompt_seconds,
            decode_seconds=self.decode_seconds,
            seconds_to_first_token=self.seconds_to_first_token,
            peak_memory_bytes=peak_memory,
            mean_logprob=self.logprob_sum / self.sampled_tokens if self.sampled_tokens else 0.0,
        )


class Engine:
    """Runs requests; see the module's docstring.

    State: waiting requests, the one being prefilled, the running batch, parked rows, and the kept prefixes. Not
    thread-safe, except `cancel`, which may be called from a signal handler or another thread.
    """

    def __init__(
        self,
        model: ZayaModel,
        tokenizer: Tokenizer,
        max_rows: int = 16,
        chunk: int = PREFILL_CHUNK,
        context: int | None = None,
    ):
        """chunk: prompt tokens of one prefill step. context: most positions of a row, None for the model's own.

        Raises UsageError for a context that the model does not have.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.max_rows = max_rows
        self.chunk = chunk
        longest = model.config.max_position_embeddings
        if context is not None and not 2 <= context <= longest:
            raise UsageError(f"The context is {context:,}; this model's is at most {longest:,}, and 2 is the least.")
        self.context = context or longest
        self.prefixes = PrefixStore()
        self._ids = count()
        self._waiting: list[_Row] = []
        self._prefilling: _Row | None = None
        self._running: list[_Row] = []
        self._parked: list[_Row] = []  # oldest first
        self._batch: Cache | None = None  # one cache row for each running row, in the same order
        self._cancelled: set[int] = set()
        self._decoding_since: float | None = None
        self._has_just_prefilled = False

    @property
    def is_idle(self) -> bool:
        return not (self._waiting or self._prefilling or self._running or self._parked)

    def submit(self, request: Request) -> int:
        """Queue a request and return its id.

        Raises: UsageError for an empty prompt or one with ids outside the vocabulary; PromptTooLongError.
        """
        self._check(request)
        room = self.context - len(request.ids) - len(request.begun)
        max_tokens = room if request.max_tokens is None else min(room, request.max_tokens)
        row = _Row(next(self._ids), request, self.tokenizer, max_tokens)
        self._waiting.append(row)
        return row.id

    def _check(self, request: Request) -> None:
        size = self.model.config.vocab_size
        if not request.ids:
            raise UsageError("The prompt is empty.")
        ids = [*request.ids, *request.begun]
        if min(ids) < 0 or max(ids) >= size:
            raise UsageError(f"The prompt has ids outside the vocabulary of {size:,}: is the tokenizer this model's?")
        if request.max_tokens is not None and request.max_tokens < 1:
            raise UsageError(f"max_tokens is {request.max_tokens}; it must be 1 or more.")
        for name in ("thinking_budget", "answer_budget"):
            if (budget := getattr(request, name)) is not None and budget < 0:
                raise UsageError(f"{name} is {budget}; it must be 0 or more.")
        if len(ids) >= self.context:
            raise PromptTooLongError(
                f"The prompt has {len(ids):,} tokens; the context is {self.context:,}, and the answer needs "
                "room, too: shorten the prompt."
            )

    def cancel(self, *request_ids: int) -> None:
        """End requests at the next layer of their prefill or the next token, with reason "cancelled"."""
        self._cancelled.update(request_ids)

    def generate(self, requests: Sequence[Request]) -> Iterator[Event]:
        """Submit all and yield their events until the last has finished. Leaving the loop early cancels the rest."""
        for request in requests:
            self._check(request)
        yield from self.events([self.submit(request) for request in requests])

    def events(self, request_ids: Sequence[int]) -> Iterator[Event]:
        """Work until these requests have finished, and yield what happens, also to others that are open.

        Leaving the loop early cancels the rest.
        """
        open_ids = set(request_ids)
        try:
            while open_ids and not self.is_idle:
                for event in self.step():
                    if isinstance(event, Finished):
                        open_ids.discard(event.request_id)
                    yield event
        finally:
            self.cancel(*open_ids)
            self._drop_cancelled()

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Do one unit of work and return what happened. Nothing to do: no events.

        After an exception (out of memory, logits that are not numbers) all open requests are gone: the Engine is idle.
        """
        try:
            return self._drop_cancelled() + self._work()
        except BaseException:
            self._waiting, self._prefilling, self._running, self._parked, self._batch = [], None, [], [], None
            raise

    def _work(self) -> list[Event]:
        """Chunks and tokens take turns, so that a long prompt does not silence the rows that are running."""
        events = self._unpark()
        if self._prefilling is None and self._can_start():
            self._prefilling = self._start(self._waiting.pop(0))
        if self._prefilling is not None and not (self._running and self._has_just_prefilled) and self._can_prefill():
            self._has_just_prefilled = True
            return events + self._prefill(self._prefilling)
        self._has_just_prefilled = False
        return events + (self._decode() if self._running else [])

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _can_start(self) -> bool:
        """Whether the first that waits may begin: a place is free, and blocks for its prompt and a step of all."""
        if not self._waiting or self._parked or len(self._running) >= self.max_rows:
            return False
        prompt_blocks = -(-len(self._waiting[0].prompt) // BLOCK)
        return not self._running or self._has_room(prompt_blocks + 1 + len(self._running))

    def _can_prefill(self) -> bool:
        """Whether there are blocks for the next chunk; if others have them, the prompt waits again."""
        row = self._prefilling
        assert row is not None and row.cache is not None
        # One more for the copy of a partly filled block that a snapshot shares.
        needed = row.cache.blocks_for(self._next_boundary(row) - row.position) + 1
        if not self._running or self._has_room(needed):
            return True
        self._wait_again(row)
        return False

    def _wait_again(self, row: _Row) -> None:
        row.cache, row.logits, row.position, row.cached = None, None, 0, 0
        self._prefilling = None
        self._waiting.insert(0, row)

    def _has_room(self, blocks: int) -> bool:
        """Whether so many blocks are left, or can be had by forgetting prefixes that no row shares."""
        pool = self.model.pool
        while pool.blocks_left < blocks:
            if not self.prefixes.free_a_block():
                return False
        return True

    def _make_room_for_a_token(self) -> list[Event]:
        """Park the youngest rows until the others have blocks for their next token."""
        events: list[Event] = []
        while self._batch is not None and not self._has_room(self._batch.blocks_for(1)):
            if self._prefilling is not None:
                self._wait_again(self._prefilling)
            elif len(self._running) > 1:
                events.append(self._park(max(range(len(self._running)), key=lambda i: self._running[i].id)))
            else:
                break  # nobody else has a block: the pool will say that it is full
        return events

    def _park(self, index: int) -> Event:
        assert self._batch is not None
        row = self._running[index]
        row.parked = ParkedCache.of(self._batch.select([index]))
        self._keep_running([other for other in range(len(self._running)) if other != index])
        self._parked = sorted([*self._parked, row], key=lambda parked: parked.id)
        return Parked(row.id)

    def _unpark(self) -> list[Event]:
        """Let the oldest parked row go on when there are blocks for it and for a step of all that run."""
        if not self._parked or len(self._running) >= self.max_rows:
            return []
        row = self._parked[0]
        assert row.parked is not None
        if self._running and not self._has_room(row.parked.blocks + 1 + len(self._running)):
            return []
        self._has_room(row.parked.blocks + 1)
        cache, row.parked = row.parked.back_in(self.model.pool), None
        self._parked.pop(0)
        self._join(row, cache)
        return [Unparked(row.id)]

    def _join(self, row: _Row, cache: Cache) -> None:
        self._batch = cache if self._batch is None else Cache.join([self._batch, cache])
        self._running.append(row)

    def _keep_running(self, indices: list[int]) -> None:
        """Take all other rows out of the batch."""
        assert self._batch is not None
        self._batch = self._batch.select(indices) if indices else None
        self._running = [self._running[index] for index in indices]

    # --- prefill ------------------------------------------------------------------------------------------------------

    def _start(self, row: _Row) -> _Row:
        """Take up the deepest kept state, and note where this prompt parts from those that wait."""
        known = self.prefixes.deepest(row.prompt)
        if known is None:
            row.cache = self.model.new_cache()
        else:
            row.cache = Cache.from_snapshot(known.snapshot)
            row.position = row.cached = len(known.ids)
            row.logits = known.logits
        shared = {common_length(row.prompt, other.prompt) for other in self._waiting}
        cuts = {length for length in shared if length >= _SHARED_AT_LEAST} | set(row.request.snapshot_at)
        row.cuts = tuple(sorted(cut for cut in cuts if row.position < cut <= len(row.prompt)))
        return row

    def _prefill(self, row: _Row) -> list[Event]:
        started, self._decoding_since = time.perf_counter(), None
        assert row.cache is not None
        if row.position < len(row.prompt):
            try:
                row.logits = self._prefill_chunk(row, row.cache, self._next_boundary(row))
            except Cancelled:
                return self._drop_cancelled()
        row.prompt_seconds += time.perf_counter() - started
        events: list[Event] = [PrefillProgress(row.id, row.position, len(row.prompt), row.cached)]
        return events if row.position < len(row.prompt) else events + self._begin_decoding(row)

    def _prefill_chunk(self, row: _Row, cache: Cache, stop: int) -> Tensor:
        """Compute the prompt up to `stop` and return the logits (V) after it."""
        ids = torch.tensor([row.prompt[row.position : stop]])
        logits = self.model(ids, cache, last_only=True, should_stop=lambda: row.id in self._cancelled)[0, 0]
        row.position = stop
        if stop in row.cuts:
            whole = logits if stop == len(row.prompt) else None
            self.prefixes.add(Prefix(tuple(row.prompt[:stop]), cache.snapshot(), whole))
        return logits

    def _next_boundary(self, row: _Row) -> int:
        """Chunks end at multiples of the chunk size and at cuts, wherever the prefill began, so that results repeat."""
        regular = (row.position // self.chunk + 1) * self.chunk
        return min([regular, len(row.prompt), *(cut for cut in row.cuts if cut > row.position)])

    def _begin_decoding(self, row: _Row) -> list[Event]:
        self._prefilling = None
        assert row.cache is not None and row.logits is not None
        self._join(row, row.cache)
        row.cache = None
        row.seconds_to_first_token = time.perf_counter() - row.submitted
        events = self._advance(row, row.logits)
        row.logits = None
        self._leave_finished()
        return events

    # --- decode -------------------------------------------------------------------------------------------------------

    def _decode(self) -> list[Event]:
        parked = self._make_room_for_a_token()
        started = self._decoding_since or time.perf_counter()
        ids = torch.tensor([[row.tokens[-1]] for row in self._running])
        everyone = {row.id for row in self._running}
        try:
            logits = self.model(ids, self._batch, should_stop=lambda: everyone <= self._cancelled)
        except Cancelled:
            return parked + self._drop_cancelled()
        # From one result to the next: the time that choosing tokens and showing them takes counts, too.
        self._decoding_since = time.perf_counter()
        events = parked
        for row, own in zip(self._running, logits[:, 0], strict=True):
            row.decode_seconds += self._decoding_since - started
            events += self._advance(row, own)
        self._leave_finished()
        return events

    def _advance(self, row: _Row, logits: Tensor) -> list[Event]:
        """Choose the row's next token and report it. logits: (V)."""
        self._force_end_of_thinking(row)
        forced = row.forced.pop(0) if row.forced else None
        sampled = row.sampler.sample(logits, step=len(row.request.begun) + row.completion_tokens, forced=forced)
        row.completion_tokens += 1
        if forced is None:
            row.sampled_tokens += 1
            row.logprob_sum += sampled.logprob
        if sampled.token_id in self.tokenizer.stop_ids and not row.request.ignore_stop_ids:
            return self._finish(row, "stop")
        was_thinking = row.splitter.in_thinking
        row.thinking_tokens += was_thinking
        row.tokens.append(sampled.token_id)
        row.sampler.observe(sampled.token_id)
        events: list[Event] = [TokenEvent(row.id, sampled.token_id, sampled.logprob, sampled.top_logprobs)]
        events += _texts(row, row.splitter.push(sampled.token_id))
        if was_thinking and not row.splitter.in_thinking:
            seconds = time.perf_counter() - row.submitted - row.seconds_to_first_token
            events.append(
                ThinkingEnded(row.id, row.thought_before + row.thinking_tokens, seconds, row.thinking_was_cut)
            )
        reason = self._reason_to_end(row)
        return events + (self._finish(row, reason) if reason else [])

    def _reason_to_end(self, row: _Row) -> FinishReason | None:
        if row.splitter.stopped_by is not None:
            return "stop"
        budget = row.request.answer_budget
        if budget is not None and not row.splitter.in_thinking:
            if budget == 0:
                return "stop"  # the thinking was all that was wanted
            if row.completion_tokens - row.thinking_tokens >= budget:
                return "length"
        return "length" if row.completion_tokens >= row.max_tokens else None

    def _force_end_of_thinking(self, row: _Row) -> None:
        budget = row.request.thinking_budget
        if budget is None or row.forced or not row.splitter.in_thinking:
            return
        if row.thought_before + row.thinking_tokens < budget:
            return
        end = self.tokenizer.think_end_id
        row.thinking_was_cut = True
        row.forced = self.tokenizer.encode(THINK_END) if end is None else [end]

    def _finish(self, row: _Row, reason: FinishReason) -> list[Event]:
        row.is_finished = True
        stats = row.stats(peak_memory_bytes(self.model.device))
        return [*_texts(row, row.splitter.flush()), Finished(row.id, reason, stats, row.splitter.stopped_by)]

    def _leave_finished(self) -> None:
        """Take finished rows out of the batch, and keep the state of those that want it."""
        staying = [index for index, row in enumerate(self._running) if not row.is_finished]
        if len(staying) == len(self._running):
            return
        assert self._batch is not None
        for index, row in enumerate(self._running):
            if row.is_finished and row.request.keep_state:
                self._keep(row, self._batch.select([index]))
        self._keep_running(staying)
        self._decoding_since = self._decoding_since if staying else None

    def _keep(self, row: _Row, cache: Cache) -> None:
        """Keep a row's state, for a prompt that goes on from it. The last token was chosen but not yet computed."""
        ids = (row.prompt + row.tokens)[: cache.row_lengths[0]]
        if ids:
            self.prefixes.add(Prefix(tuple(ids), cache.snapshot()))

    def _drop_cancelled(self) -> list[Event]:
        cancelled, self._cancelled = self._cancelled, set()
        if not cancelled:
            return []
        dropped = [row for row in self._waiting if row.id in cancelled]
        self._waiting = [row for row in self._waiting if row.id not in cancelled]
        if self._prefilling is not None and self._prefilling.id in cancelled:
            dropped.append(self._prefilling)
            wanted = self._prefilling.request.keep_state or self._prefilling.request.snapshot_at
            if wanted and self._prefilling.cache is not None:
                self._keep(self._prefilling, self._prefilling.cache)
            self._prefilling = None
        dropped += [row for row in (*self._parked, *self._running) if row.id in cancelled]
        self._parked = [row for row in self._parked if row.id not in cancelled]
        events = [event for row in dropped for event in self._finish(row, "cancelled")]
        self._leave_finished()
        return events


def _texts(row: _Row, pieces: Sequence[TextPiece]) -> list[Event]:
    return [TextEvent(row.id, piece.kind, piece.text) for piece in pieces]
