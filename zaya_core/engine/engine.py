"""The Engine: an open batch of requests over one model.

Callers pass ids, never caches. A step is one prefill chunk of one prompt, or one token for all running rows, never
mixed. Beginnings that prompts of one salt have in common are prefilled once, kept as snapshots and forked.

Prompts are begun by age. Beside one of more than `_SHORT` chunks, the oldest that has no more takes turns with it,
chunk by chunk. While there are places and blocks, the n-th short one that waits has therefore been computed after at
most 2 * (_SHORT + 1) * (n + 1) chunks, its own among them (those that cuts make come on top), and a long one after at
most twice its own since it was begun. A request of a full group waits, and others go first.

Rows are admitted by the blocks that are in use, not by what they may come to need. When the pool is full, first kept
prefixes go, the least recently used before others, then a prompt that is being computed waits again, then the youngest
row is parked in host memory; parked rows go on, oldest first, before new ones begin.

What fails ends the requests it was done for and no others: a prompt's chunk that one's, a batch's token all that run.
"""

from __future__ import annotations

import math
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count

import torch
from torch import Tensor

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.cache import Cache
from zaya_core.cache.parking import ParkedCache
from zaya_core.cache.prefixes import MAX_PREFIXES, MAX_PREFIXES_BOUNDED, Prefix, PrefixStore
from zaya_core.engine.admission import Admission
from zaya_core.engine.batch import Batch
from zaya_core.engine.events import Event, Failed, Finished, FinishReason, Parked, PrefillProgress, Unparked
from zaya_core.engine.frames import release_frames
from zaya_core.engine.prompt_scores import PromptScores
from zaya_core.engine.request import Request as Request
from zaya_core.engine.request import checked, whole_number
from zaya_core.engine.row import Row
from zaya_core.engine.views import Counters, RowView, Totals
from zaya_core.engine.waiting import WaitingRows
from zaya_core.errors import MemoryFitError
from zaya_core.model.model import PREFILL_CHUNK, Cancelled, ZayaModel
from zaya_core.sampling.draw import Drawn, RowDraw
from zaya_core.sampling.params import RandomKey, SamplingParams
from zaya_core.text.tokenizer import Tokenizer

_LIKELIEST = RowDraw(SamplingParams(temperature=0), RandomKey(0), 0)
MAX_ROWS = 16  # that run at once, unless said otherwise
_SHORT = 4  # most chunks of a prompt that is computed while a longer one is
_MAX_CUTS = 16  # of one prompt for others
_SHARED_AT_LEAST = 16  # a common beginning shorter than this is cheaper to compute again than to keep


class Engine:
    """Runs requests; see the module's docstring.

    State: waiting requests, those being prefilled, the running batch, parked rows, and the kept prefixes. Not
    thread-safe, except `cancel` and `end_thinking`, which may be called from a signal handler or another thread.
    """

    def __init__(
        self,
        model: ZayaModel,
        tokenizer: Tokenizer,
        max_rows: int = MAX_ROWS,
        chunk: int = PREFILL_CHUNK,
        context: int | None = None,
        max_blocks: int | None = None,
        max_prefixes: int | None = None,
        prefix_blocks: int | None = None,
    ):
        """max_rows: most rows that run at once; it falls when a card has no room for a step of so many. chunk: prompt
        tokens of one prefill step. context: most positions of a row, None for the model's own. max_blocks: most blocks
        of keys and values, which on a card are allocated now; None for as many as are needed. max_prefixes: most kept
        prefixes, None for 16, or 64 in host memory with `max_blocks`; prefix_blocks: most blocks that these hold, None
        for as many as rows leave them.

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
        if max_prefixes is None:
            is_in_host = blocks is not None and model.device.type == "cpu"
            max_prefixes = MAX_PREFIXES_BOUNDED if is_in_host else MAX_PREFIXES
        held = math.inf if prefix_blocks is None else whole_number("prefix_blocks", prefix_blocks, 0)
        self.prefixes = PrefixStore(self.states, whole_number("max_prefixes", max_prefixes, 0), held)
        self._ids = count()
        self._waiting = WaitingRows()
        self._prefilling: list[Row] = []  # the oldest, and a short one that takes turns with it
        self._has_just_overtaken = False
        self._parked: list[Row] = []  # oldest first
        self._running = Batch()
        self._cancelled: set[int] = set()
        self._to_close: set[int] = set()  # whose thoughts are to end
        self._untold: list[Event] = []  # what `events`, left early, did not yield of requests that were not its own
        self._admission = Admission(self.states.pool, self.prefixes)
        self._admission_beside = Admission(self.states.pool, self.prefixes)  # of short prompts beside a long one
        self._totals = Totals()
        self._decoding_since: float | None = None
        self._has_just_prefilled = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is open, and no event is left that a step would return."""
        return not (self._waiting or self._prefilling or self._running or self._parked or self._untold)

    def rows(self) -> tuple[RowView, ...]:
        """All open requests, oldest first."""
        views = [RowView.of(row, "waiting") for row in self._waiting]
        views += [RowView.of(row, "prefilling") for row in self._prefilling]
        views += [RowView.of(row, "running") for row in self._running]
        views += [RowView.of(row, "parked") for row in self._parked]
        return tuple(sorted(views, key=lambda view: view.request_id))

    @property
    def counters(self) -> Counters:
        """How much there is of everything now, and has been."""
        pool, totals = self.states.pool, self._totals
        return Counters(
            waiting=len(self._waiting),
            prefilling=len(self._prefilling),
            running=len(self._running),
            parked=len(self._parked),
            blocks_used=pool.blocks_in_use,
            blocks_total=None if math.isinf(pool.capacity) else int(pool.capacity),
            prefixes=len(self.prefixes),
            prefix_blocks=self.prefixes.blocks,
            **vars(totals),
        )

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
        if row.may_reuse:
            row.uncached -= self.prefixes.known_length(row.prompt, row.salt)
        self._waiting.add(row)
        return row.id

    def cancel(self, *request_ids: int) -> None:
        """End requests at the next layer of their prefill or the next token, with reason "cancelled"."""
        self._cancelled.update(request_ids)

    def end_thinking(self, *request_ids: int) -> None:
        """Close the open thoughts of requests at their next token, as at their budgets; others go on as they are."""
        self._to_close.update(request_ids)

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
            happened.extend(self._drop_ended())
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
            self._close_thoughts()
            return self._drop_ended() + self._work()
        except BaseException as error:
            release_frames(error)
            self._waiting, self._prefilling, self._parked = WaitingRows(), [], []
            self._running.empty()
            raise

    def _work(self) -> list[Event]:
        """Chunks and tokens take turns, so that a long prompt does not silence the rows that are running."""
        events = self._unpark() + self._start()
        if not (self._running and self._has_just_prefilled) and (row := self._next_to_prefill()) is not None:
            self._has_just_prefilled = True
            self._has_just_overtaken = row is not self._prefilling[0]
            self._totals.steps += 1
            return events + self._attempt(row, self._prefill) + self._leave()
        self._has_just_prefilled = False
        return events + (self._decode() if self._running else [])

    @property
    def _at_work(self) -> list[Row]:
        return [*self._prefilling, *self._running, *self._parked]

    def _close_thoughts(self) -> None:
        if asked := set(self._to_close):
            self._to_close -= asked  # in place: another thread may add to it
            for row in [*self._waiting, *self._at_work]:
                if row.id in asked:
                    row.end_thinking()

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
        if row in self._prefilling:
            self._prefilling.remove(row)
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
        """Let the next that waits begin when a place is free, and blocks for its prompt and a step of all."""
        if not self._waiting or self._parked or len(self._running) + len(self._prefilling) >= self.max_rows:
            return []
        row = self._next_to_begin()
        admission = self._admission_beside if self._prefilling else self._admission
        if row is None or admission.was_refused(row, self._others):
            return []
        events = self._attempt(row, self._take_up)
        row.uncached = len(row.prompt) - row.position
        if row.cache is not None and self._others and not self._may_stay(row, admission):
            row.forget_state()
            admission.refuse(row, self._others)
            return events
        self._waiting.remove(row)
        if not row.has_ended:
            row.begin_prompt()
            self._totals.cached_tokens += row.cached
            row.cuts = self._cuts_of(row)
            self._prefilling.append(row)
        return events

    def _may_stay(self, row: Row, admission: Admission) -> bool:
        """Whether a row that was taken up beside others has room, and is as short as it was when it was queued."""
        is_in_turn = not self._prefilling or self._is_short(row)
        return is_in_turn and admission.has_room(lambda: self._blocks_beside(row))

    def _next_to_begin(self) -> Row | None:
        """The oldest that may; beside a long prompt the oldest short one, but not when it can go on from the long."""
        may_begin = self._waiting.may_begin(self._at_work)
        if not self._prefilling:
            return next(may_begin, None)
        elder = self._prefilling[0]
        if len(self._prefilling) > 1 or self._is_short(elder):
            return None
        return next((row for row in may_begin if self._is_short(row) and not _goes_on_from(row, elder)), None)

    def _is_short(self, row: Row) -> bool:
        return row.uncached <= _SHORT * self.chunk

    def _blocks_beside(self, row: Row) -> int:
        """What a row that begins, those whose prompts are computed and a step of all need."""
        prefilling = [one for one in (row, *self._prefilling) if one.cache is not None]
        rest = sum(one.cache.blocks_for(len(one.prompt) - one.position) + 1 for one in prefilling if one.cache)
        return rest + len(self._running)

    @property
    def _others(self) -> list[Row]:
        """Who has blocks beside a row that comes next."""
        return [*self._prefilling, *self._running]

    def _next_to_prefill(self) -> Row | None:
        """Whose turn it is, if there are blocks for the next chunk; else the younger, which has them, waits again."""
        while self._prefilling:
            row = self._prefilling[0 if self._has_just_overtaken else -1]
            if self._can_prefill(row):
                return row
            self._wait_again(self._prefilling[-1])
            if self._running:
                return None
        return None

    def _can_prefill(self, row: Row) -> bool:
        """Whether there are blocks for the next chunk."""
        cache, columns = row.cache, self._next_boundary(row) - row.position
        assert cache is not None
        if not self._running and len(self._prefilling) == 1:
            self._admission.make_room(lambda: cache.blocks_for(columns))  # else the pool will say that it is full
            return True
        # One more for the copy of a partly filled block that a snapshot shares.
        return self._admission.has_room(lambda: cache.blocks_for(columns) + 1)

    def _wait_again(self, row: Row) -> None:
        row.forget_state()
        self._prefilling.remove(row)
        self._waiting.add_again(row)

    def _make_room_for_a_token(self) -> list[Event]:
        """Park the youngest rows until the others have blocks for their next token."""
        events: list[Event] = []
        while not self._admission.has_room(self._running.blocks_for_a_token):
            if self._prefilling:
                self._wait_again(self._prefilling[-1])
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
        beside = max(0, len(self._prefilling) - 1)  # places are counted for all but one that is prefilled
        if not self._parked or len(self._running) + beside >= self.max_rows:
            return []
        row = self._parked[0]
        assert row.parked is not None
        if self._admission.was_refused(row, self._others):
            return []
        blocks = row.parked.blocks + 1
        if self._others and not self._admission.has_room(lambda: blocks + len(self._running)):
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
        known = self.prefixes.deepest(row.prompt, row.salt) if row.may_reuse else None
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
        partings = [length for length in self._waiting.partings(row) if length >= _SHARED_AT_LEAST]
        kept = min(_MAX_CUTS, self.prefixes.max_prefixes)
        cuts = {*(partings[-kept:] if kept else ()), *row.request.snapshot_at}
        return deque(sorted(cut for cut in cuts if cut > row.position))

    def _prefill(self, row: Row) -> list[Event]:
        started, self._decoding_since = time.perf_counter(), None
        scores = PromptScores(row, self.model.steps)
        if row.position < len(row.prompt):
            try:
                self._prefill_chunk(row, self._next_boundary(row), scores)
            except Cancelled:
                return self._drop_ended()
        row.prompt_seconds += time.perf_counter() - started
        events: list[Event] = [PrefillProgress(row.id, row.position, len(row.prompt), row.cached), *scores.told()]
        return events if row.position < len(row.prompt) else events + self._begin_decoding(row)

    def _prefill_chunk(self, row: Row, stop: int, scores: PromptScores) -> None:
        """Compute the prompt up to `stop`, and keep that state if it is worth it."""
        assert row.cache is not None
        row.logits = self.model(
            torch.tensor([row.prompt[row.position : stop]]),
            row.cache,
            last_only=True,
            should_stop=lambda: row.id in self._cancelled or row.is_late,
            is_prompt=True,
            visit=None if row.request.prompt_logprobs is None else scores.take,
        )[0, 0]
        if isinstance(error := self.model.steps.draw(row.logits[None], [_LIKELIEST])[0], Exception):
            raise error  # a state that gives no numbers is not kept
        self._totals.prompt_tokens += stop - row.position
        row.position = stop
        if row.cuts and row.cuts[0] == stop:
            row.cuts.popleft()
            whole = row.logits if stop == len(row.prompt) else None
            self.prefixes.add(Prefix(tuple(row.prompt[:stop]), row.cache.snapshot(), whole, row.salt))

    def _next_boundary(self, row: Row) -> int:
        """Chunks end at multiples of the chunk size and at cuts, wherever the prefill began, so that results repeat."""
        regular = (row.position // self.chunk + 1) * self.chunk
        return min(regular, len(row.prompt), *list(row.cuts)[:1])

    def _begin_decoding(self, row: Row) -> list[Event]:
        assert row.cache is not None and row.logits is not None
        self._running.join(row, row.cache)
        self._prefilling.remove(row)
        row.cache = None
        row.begin_answer()
        logits, row.logits = row.logits, None
        return self._advance([row], logits[None])

    # --- decode -------------------------------------------------------------------------------------------------------

    def _decode(self) -> list[Event]:
        events = self._make_room_for_a_token()
        if not self._running:
            return events
        self._totals.steps += 1
        started = self._decoding_since or time.perf_counter()
        everyone = {row.id for row in self._running}
        try:
            ids = torch.tensor([[row.tokens[-1]] for row in self._running])
            logits = self.model(ids, self._running.cache, should_stop=lambda: everyone <= self._cancelled)
        except Cancelled:
            return events + self._drop_ended()
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
        self._draw_for(rows, logits, asked, drawn)
        closed = {place: row.next_draw() for place, row in enumerate(rows) if row.closes_instead(drawn.get(row.id))}
        self._draw_for(rows, logits, closed, drawn)
        self._totals.generated_tokens += sum(isinstance(one, Drawn) for one in drawn.values())
        return [event for row in rows for event in self._attempt(row, lambda row: row.advance(drawn.get(row.id)))]

    def _draw_for(
        self, rows: Sequence[Row], logits: Tensor, asked: dict[int, RowDraw], drawn: dict[int, Drawn | Exception]
    ) -> None:
        """Note in `drawn` the tokens that rows ask for by their places, or why there are none: what fails for all ends
        all that were to have one."""
        if not asked:
            return
        own = logits if len(asked) == len(rows) else logits[list(asked)]
        ids = [rows[place].id for place in asked]
        try:
            drawn |= zip(ids, self.model.steps.draw(own, list(asked.values())), strict=True)
        except Exception as error:
            drawn |= dict.fromkeys(ids, error)

    def _keep(self, row: Row, cache: Cache) -> None:
        """Keep a row's state, for a prompt that goes on from it. The last token was chosen but not yet computed."""
        ids = (row.prompt + row.tokens)[: cache.row_lengths[0]]
        if ids:
            self.prefixes.add(Prefix(tuple(ids), cache.snapshot(), salt=row.salt))

    @torch.inference_mode()
    def _drop_ended(self) -> list[Event]:
        """End the requests that were cancelled, and those whose time is over."""
        cancelled = set(self._cancelled)
        self._cancelled -= cancelled  # in place: another thread may add to it
        everyone = [*sorted(self._waiting, key=lambda row: row.id), *self._prefilling, *self._parked, *self._running]
        reasons: dict[int, FinishReason] = {row.id: "timeout" for row in everyone if row.is_late}
        reasons |= {row.id: "cancelled" for row in everyone if row.id in cancelled}
        if not reasons:
            return []
        dropped = [row for row in everyone if row.id in reasons]
        for row in [row for row in self._waiting if row.id in reasons]:
            self._waiting.remove(row)
        for row in [row for row in self._prefilling if row.id in reasons]:
            self._stop_prefilling(row)
        self._parked = [row for row in self._parked if row.id not in reasons]
        events = [event for row in dropped for event in self._attempt(row, lambda row: row.finish(reasons[row.id]))]
        return events + self._leave()

    def _stop_prefilling(self, row: Row) -> None:
        if row.cache is not None and (row.request.keep_state or row.request.snapshot_at):
            self._keep(row, row.cache)
        row.cache = None
        self._prefilling.remove(row)


def _goes_on_from(row: Row, other: Row) -> bool:
    """Whether the next state to be kept of the other's prompt is one that the row can go on from."""
    if not (other.cuts and row.may_reuse and row.salt == other.salt):
        return False
    return other.position < (cut := other.cuts[0]) <= len(row.prompt) and row.prompt[:cut] == other.prompt[:cut]
