"""The Engine: an open batch of requests over one model.

Callers pass ids, never caches. A step is one prefill chunk of one prompt, or one token for all running rows, never
mixed. Beginnings that prompts have in common are prefilled once, kept as snapshots and forked.

Rows are admitted by the blocks that are in use, not by what they may come to need. When the pool is full, first kept
prefixes go, the least recently used before others, then a prompt that is being computed waits again, then the youngest
row is parked in host memory; parked rows go on, oldest first, before new ones begin.

What fails ends the requests it was done for and no others: a prompt's chunk that one's, a batch's token all that run.
"""

from __future__ import annotations

import time
from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count

import torch
from torch import Tensor

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.cache import Cache
from zaya_core.cache.parking import ParkedCache
from zaya_core.cache.prefixes import Prefix, PrefixStore
from zaya_core.engine.admission import Admission
from zaya_core.engine.batch import Batch
from zaya_core.engine.events import Event, Failed, Finished, Parked, PrefillProgress, Unparked
from zaya_core.engine.frames import release_frames
from zaya_core.engine.prompt_tree import PromptTree
from zaya_core.engine.request import Request as Request
from zaya_core.engine.request import checked, whole_number
from zaya_core.engine.row import Row
from zaya_core.errors import MemoryFitError
from zaya_core.model.model import PREFILL_CHUNK, Cancelled, ZayaModel
from zaya_core.sampling.draw import Drawn, RowDraw
from zaya_core.sampling.params import RandomKey, SamplingParams
from zaya_core.text.tokenizer import Tokenizer

_LIKELIEST = RowDraw(SamplingParams(temperature=0), RandomKey(0), 0)
MAX_ROWS = 16  # that run at once, unless said otherwise
_SHARED_AT_LEAST = 16  # a common beginning shorter than this is cheaper to compute again than to keep


class Engine:
    """Runs requests; see the module's docstring.

    State: waiting requests, the one being prefilled, the running batch, parked rows, and the kept prefixes. Not
    thread-safe, except `cancel`, which may be called from a signal handler or another thread.
    """

    def __init__(
        self,
        model: ZayaModel,
        tokenizer: Tokenizer,
        max_rows: int = MAX_ROWS,
        chunk: int = PREFILL_CHUNK,
        context: int | None = None,
        max_blocks: int | None = None,
    ):
        """max_rows: most rows that run at once; it falls when a card has no room for a step of so many. chunk: prompt
        tokens of one prefill step. context: most positions of a row, None for the model's own. max_blocks: most blocks
        of keys and values, which on a card are allocated now; None for as many as are needed.

        Raises UsageError for a number out of its range, such as a context that the model does not have.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.max_rows = whole_number("max_rows", max_rows, 1)
        blocks = None if max_blocks is None else whole_number("max_blocks", max_blocks, 1)
        self.states = model.steps.states(self.max_rows, blocks)
        self.chunk = whole_number("chunk", chunk, 1)
        longest = model.config.max_position_embeddings
        self.context = longest if context is None else whole_number("context", context, 2, longest)
        self.prefixes = PrefixStore(self.states)
        self._ids = count()
        self._waiting: OrderedDict[int, Row] = OrderedDict()
        self._waiting_prompts = PromptTree()
        self._prefilling: Row | None = None
        self._parked: list[Row] = []  # oldest first
        self._running = Batch()
        self._cancelled: set[int] = set()
        self._untold: list[Event] = []  # what `events`, left early, did not yield of requests that were not its own
        self._admission = Admission(self.states.pool, self.prefixes)
        self._decoding_since: float | None = None
        self._has_just_prefilled = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is open, and no event is left that a step would return."""
        return not (self._waiting or self._prefilling or self._running or self._parked or self._untold)

    def submit(self, request: Request) -> int:
        """Queue a request and return its id. Nothing has changed when it is refused.

        Raises: UsageError for a field out of its range or an id outside the vocabulary; PromptTooLongError;
        MemoryFitError for a prompt larger than the whole key/value cache.
        """
        return self._queue(self._row_of(request))

    def _row_of(self, request: Request) -> Row:
        request = checked(request, self.model.config.vocab_size, self.context)
        length, pool = len(request.ids) + len(request.begun), self.states.pool
        if (blocks := -(-length // BLOCK)) > pool.capacity:
            raise MemoryFitError(
                f"The prompt has {length:,} tokens and needs {blocks} blocks of {BLOCK}; the key/value cache has "
                f"{pool.capacity}: shorten the prompt."
            )
        room = self.context - length
        max_tokens = room if request.max_tokens is None else min(room, request.max_tokens)
        return Row(next(self._ids), request, self.tokenizer, max_tokens, self.model.device)

    def _queue(self, row: Row) -> int:
        self._waiting[row.id] = row
        self._waiting_prompts.add(row.prompt)
        return row.id

    def cancel(self, *request_ids: int) -> None:
        """End requests at the next layer of their prefill or the next token, with reason "cancelled"."""
        self._cancelled.update(request_ids)

    def generate(self, requests: Sequence[Request]) -> Iterator[Event]:
        """Check all, submit all, and yield their events until the last has ended. Leaving early cancels the rest.

        Raises: what `submit` does, before any has begun; the error of the first that failed, after all have ended.
        """
        ids = [self._queue(row) for row in [self._row_of(request) for request in requests]]
        errors: list[Exception] = []
        for event in self.events(ids):
            if isinstance(event, Failed) and event.request_id in ids:
                errors.append(event.error)
            yield event
        if errors:
            raise errors[0]

    def events(self, request_ids: Sequence[int]) -> Iterator[Event]:
        """Work until these requests have ended, and yield what happens, also to others that are open.

        One that failed has a `Failed` as its last event; nothing is raised for it. Leaving the loop early cancels the
        rest; what has happened to others by then, the next step returns.
        """
        own_ids = set(request_ids)
        open_ids, happened = set(own_ids), deque[Event]()
        try:
            while open_ids and not self.is_idle:
                happened.extend(self.step())
                while happened:
                    event = happened.popleft()
                    if isinstance(event, (Finished, Failed)):
                        open_ids.discard(event.request_id)
                    yield event
        finally:
            self.cancel(*open_ids)
            happened.extend(self._drop_cancelled())
            self._untold += [event for event in happened if event.request_id not in own_ids]

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Do one unit of work and return what happened. Nothing to do: no events.

        What is left of an `events` loop comes first, as a step of its own.

        What fails is told by a `Failed` for each request that it ended. Only an exception that is no error passes
        through, such as KeyboardInterrupt: all open requests are gone then, and the Engine is idle.
        """
        if self._untold:
            untold, self._untold = self._untold, []
            return untold
        try:
            return self._drop_cancelled() + self._work()
        except BaseException as error:
            release_frames(error)
            self._waiting, self._waiting_prompts = OrderedDict(), PromptTree()
            self._prefilling, self._parked = None, []
            self._running.empty()
            raise

    def _work(self) -> list[Event]:
        """Chunks and tokens take turns, so that a long prompt does not silence the rows that are running."""
        events = self._unpark() + self._start()
        row = self._prefilling
        if row is not None and not (self._running and self._has_just_prefilled) and self._can_prefill(row):
            self._has_just_prefilled = True
            return events + self._attempt(row, self._prefill) + self._leave()
        self._has_just_prefilled = False
        return events + (self._decode() if self._running else [])

    # --- failures -----------------------------------------------------------------------------------------------------

    def _attempt(self, row: Row, work: Callable[[Row], list[Event]]) -> list[Event]:
        """The events of some work for one row; an error in it ends this row."""
        try:
            return work(row)
        except Exception as error:
            return [self._fail(row, error)]

    def _fail(self, row: Row, error: Exception) -> Event:
        """End a row and give its blocks back, those in the batch when it leaves."""
        row.has_ended, row.keeps_state = True, False
        if self._prefilling is row:
            self._prefilling = None
        tables = self._running.tables_of(row) if row.cache is None else row.cache.tables
        with suppress(RuntimeError):  # a device that does nothing any more
            for table in tables:
                table.clear()
        row.forget_state()
        release_frames(error)
        return Failed(row.id, error)

    def _fail_running(self, error: Exception) -> list[Event]:
        events = [self._fail(row, error) for row in self._running if not row.has_ended]
        self._running.empty()
        return events

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _start(self) -> list[Event]:
        """Let the first that waits begin when a place is free, and blocks for its prompt and a step of all."""
        if not self._waiting or self._prefilling or self._parked or len(self._running) >= self.max_rows:
            return []
        row = next(iter(self._waiting.values()))
        if self._admission.was_refused(row, self._others):
            return []
        events = self._attempt(row, self._take_up)
        cache = row.cache
        if cache is not None and self._running:
            rest = len(row.prompt) - row.position
            if not self._admission.has_room(lambda: cache.blocks_for(rest) + 1 + len(self._running)):
                row.forget_state()
                self._admission.refuse(row, self._others)
                return events
        self._leave_waiting(row)
        if not row.has_ended:
            row.cuts = self._cuts_of(row)
            self._prefilling = row
        return events

    @property
    def _others(self) -> list[Row]:
        """Who has blocks beside a row that comes next."""
        return [*([] if self._prefilling is None else [self._prefilling]), *self._running]

    def _leave_waiting(self, row: Row) -> None:
        del self._waiting[row.id]
        self._waiting_prompts.remove(row.prompt)

    def _can_prefill(self, row: Row) -> bool:
        """Whether there are blocks for the next chunk; if others have them, the prompt waits again."""
        cache, columns = row.cache, self._next_boundary(row) - row.position
        assert cache is not None
        if not self._running:
            self._admission.make_room(lambda: cache.blocks_for(columns))  # else the pool will say that it is full
            return True
        # One more for the copy of a partly filled block that a snapshot shares.
        if self._admission.has_room(lambda: cache.blocks_for(columns) + 1):
            return True
        self._wait_again(row)
        return False

    def _wait_again(self, row: Row) -> None:
        row.forget_state()
        self._prefilling = None
        self._queue(row)
        self._waiting.move_to_end(row.id, last=False)

    def _make_room_for_a_token(self) -> list[Event]:
        """Park the youngest rows until the others have blocks for their next token."""
        events: list[Event] = []
        while not self._admission.has_room(self._running.blocks_for_a_token):
            if self._prefilling is not None:
                self._wait_again(self._prefilling)
            elif len(self._running) > 1:
                events += self._park_youngest()
            else:
                self._admission.make_room(self._running.blocks_for_a_token)
                break  # nobody else has a block: the pool may say that it is full
        return events

    def _park_youngest(self) -> list[Event]:
        return self._attempt(max(self._running, key=lambda row: row.id), self._park) + self._leave()

    def _park(self, row: Row) -> list[Event]:
        row.parked = ParkedCache.of(self._running.copy_of(row))
        insort(self._parked, row, key=lambda parked: parked.id)
        return [Parked(row.id)]

    def _unpark(self) -> list[Event]:
        """Let the oldest parked row go on when there are blocks for it and for a step of all that run."""
        if not self._parked or len(self._running) >= self.max_rows:
            return []
        row = self._parked[0]
        assert row.parked is not None
        if self._admission.was_refused(row, self._others):
            return []
        blocks = row.parked.blocks + 1
        if self._running and not self._admission.has_room(lambda: blocks + len(self._running)):
            self._admission.refuse(row, self._others)
            return []
        self._admission.make_room(lambda: blocks)
        self._parked.pop(0)
        return self._attempt(row, self._go_on)

    def _go_on(self, row: Row) -> list[Event]:
        assert row.parked is not None
        self._running.join(row, row.parked.back_in(self.states))
        row.parked = None
        return [Unparked(row.id)]

    def _leave(self) -> list[Event]:
        """Take rows that have ended or are parked out of the batch; keep the state of those that finished and want it.

        When not even that can be done, the running rows fail.
        """
        staying = [index for index, row in enumerate(self._running) if not (row.has_ended or row.parked)]
        if len(staying) == len(self._running):
            return []
        for row in self._running:
            if row.has_ended and row.keeps_state:
                with suppress(MemoryError, RuntimeError):  # what cannot be kept is computed again
                    self._keep(row, self._running.copy_of(row))
        try:
            self._running.keep(staying)
        except Exception as error:
            return self._fail_running(error)
        self._decoding_since = self._decoding_since if staying else None
        return []

    # --- prefill ------------------------------------------------------------------------------------------------------

    def _take_up(self, row: Row) -> list[Event]:
        """Begin with the deepest kept state."""
        known = self.prefixes.deepest(row.prompt)
        if known is None:
            row.cache = Cache.empty(self.states)
        else:
            row.cache = Cache.from_snapshot(known.snapshot)
            row.position = row.cached = len(known.ids)
            row.logits = known.logits
        return []

    def _cuts_of(self, row: Row) -> deque[int]:
        """The positions ahead to keep: those asked for, and where this prompt parts from those that wait.

        Of the latter no more than can be kept, the deepest.
        """
        partings = [length for length in self._waiting_prompts.partings(row.prompt) if length >= _SHARED_AT_LEAST]
        cuts = {*partings[-self.prefixes.capacity :], *row.request.snapshot_at}
        return deque(sorted(cut for cut in cuts if cut > row.position))

    def _prefill(self, row: Row) -> list[Event]:
        started, self._decoding_since = time.perf_counter(), None
        if row.position < len(row.prompt):
            try:
                self._prefill_chunk(row, self._next_boundary(row))
            except Cancelled:
                return self._drop_cancelled()
        row.prompt_seconds += time.perf_counter() - started
        events: list[Event] = [PrefillProgress(row.id, row.position, len(row.prompt), row.cached)]
        return events if row.position < len(row.prompt) else events + self._begin_decoding(row)

    def _prefill_chunk(self, row: Row, stop: int) -> None:
        """Compute the prompt up to `stop`, and keep that state if it is worth it."""
        assert row.cache is not None
        ids = torch.tensor([row.prompt[row.position : stop]])
        row.logits = self.model(
            ids, row.cache, last_only=True, should_stop=lambda: row.id in self._cancelled, is_prompt=True
        )[0, 0]
        if isinstance(error := self.model.steps.draw(row.logits[None], [_LIKELIEST])[0], Exception):
            raise error  # a state that gives no numbers is not kept
        row.position = stop
        if row.cuts and row.cuts[0] == stop:
            row.cuts.popleft()
            whole = row.logits if stop == len(row.prompt) else None
            self.prefixes.add(Prefix(tuple(row.prompt[:stop]), row.cache.snapshot(), whole))

    def _next_boundary(self, row: Row) -> int:
        """Chunks end at multiples of the chunk size and at cuts, wherever the prefill began, so that results repeat."""
        regular = (row.position // self.chunk + 1) * self.chunk
        return min(regular, len(row.prompt), *list(row.cuts)[:1])

    def _begin_decoding(self, row: Row) -> list[Event]:
        assert row.cache is not None and row.logits is not None
        self._running.join(row, row.cache)
        self._prefilling, row.cache = None, None
        row.begin_answer()
        logits, row.logits = row.logits, None
        return self._advance([row], logits[None])

    # --- decode -------------------------------------------------------------------------------------------------------

    def _decode(self) -> list[Event]:
        events = self._make_room_for_a_token()
        if not self._running:
            return events
        started = self._decoding_since or time.perf_counter()
        everyone = {row.id for row in self._running}
        try:
            ids = torch.tensor([[row.tokens[-1]] for row in self._running])
            logits = self.model(ids, self._running.cache, should_stop=lambda: everyone <= self._cancelled)
        except Cancelled:
            return events + self._drop_cancelled()
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError) and len(self._running) > 1:
                release_frames(error)
                return events + self._run_one_less()
            return events + self._fail_running(error)
        # From one result to the next: the time that choosing tokens and showing them takes counts, too.
        self._decoding_since = time.perf_counter()
        for row in self._running:
            row.decode_seconds += self._decoding_since - started
        return events + self._advance(self._running.rows, logits[:, 0]) + self._leave()

    def _run_one_less(self) -> list[Event]:
        """A card has no room for a step of so many rows: the youngest waits in host memory, and no more run again."""
        self.max_rows = len(self._running) - 1
        return self._park_youngest()

    def _advance(self, rows: Sequence[Row], logits: Tensor) -> list[Event]:
        """Choose the next token of each row and report it, or its end. logits: (B, V)."""
        drawn: dict[int, Drawn | Exception] = {}
        asked: dict[int, RowDraw] = {}  # by place
        for place, row in enumerate(rows):
            try:
                if row.reason_to_end is None:
                    asked[place] = row.next_draw()
            except Exception as error:
                drawn[row.id] = error
        own = logits if len(asked) == len(rows) else logits[list(asked)]
        drawn |= zip([rows[place].id for place in asked], self._draw(own, list(asked.values())), strict=True)
        return [event for row in rows for event in self._attempt(row, lambda row: row.advance(drawn.get(row.id)))]

    def _draw(self, logits: Tensor, rows: list[RowDraw]) -> list[Drawn | Exception]:
        """The token of each row, or why it has none: what fails for all ends all that were to have one."""
        try:
            return self.model.steps.draw(logits, rows) if rows else []
        except Exception as error:
            return [error] * len(rows)

    def _keep(self, row: Row, cache: Cache) -> None:
        """Keep a row's state, for a prompt that goes on from it. The last token was chosen but not yet computed."""
        ids = (row.prompt + row.tokens)[: cache.row_lengths[0]]
        if ids:
            self.prefixes.add(Prefix(tuple(ids), cache.snapshot()))

    @torch.inference_mode()
    def _drop_cancelled(self) -> list[Event]:
        cancelled = set(self._cancelled)
        if not cancelled:
            return []
        self._cancelled -= cancelled  # in place: another thread may add to it
        dropped = [self._waiting[id_] for id_ in sorted(id_ for id_ in cancelled if id_ in self._waiting)]
        for row in dropped:
            self._leave_waiting(row)
        if self._prefilling is not None and self._prefilling.id in cancelled:
            dropped.append(self._stop_prefilling(self._prefilling))
        dropped += [row for row in (*self._parked, *self._running) if row.id in cancelled]
        self._parked = [row for row in self._parked if row.id not in cancelled]
        events = [event for row in dropped for event in self._attempt(row, lambda row: row.finish("cancelled"))]
        return events + self._leave()

    def _stop_prefilling(self, row: Row) -> Row:
        if row.cache is not None and (row.request.keep_state or row.request.snapshot_at):
            self._keep(row, row.cache)
        row.cache, self._prefilling = None, None
        return row
