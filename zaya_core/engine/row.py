"""One request on its way: its position in the prompt, then its tokens, one after the other, and what they spell."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from zaya_core.cache.cache import Cache
from zaya_core.cache.parking import ParkedCache
from zaya_core.engine.events import Event, Finished, FinishReason, Stats, TextEvent, ThinkingEnded, TokenEvent
from zaya_core.engine.request import Request
from zaya_core.machine.memory import peak_memory_bytes
from zaya_core.sampling.additions import Additions
from zaya_core.sampling.draw import Drawn, RowDraw
from zaya_core.sampling.params import RandomKey
from zaya_core.sampling.seen import SeenIds
from zaya_core.text.splitter import TextPiece, TextSplitter
from zaya_core.text.token_names import THINK_END
from zaya_core.text.tokenizer import Tokenizer


class Row:
    """Chooses the tokens of one request and reports them; the Engine gives it its state and its logits.

    State: `cache` while the prompt is computed (its place is in the batch afterwards), `parked` while that is in host
    memory, `logits` (V) after `position`; `cuts`: positions ahead whose state is to be kept; `keeps_state`: so is the
    last one; `scored`: the position of the last prompt token whose log-probability was told; `uncached`: how much of
    the prompt was to be computed when it was last looked at, queued or begun. `has_ended`: nothing more comes.
    """

    def __init__(self, request_id: int, request: Request, tokenizer: Tokenizer, max_tokens: int, device: torch.device):
        self.id = request_id
        self.request = request
        self.prompt = [*request.ids, *request.begun]
        assert isinstance(request.salt, bytes)  # `checked` makes it so
        self.salt = request.salt
        self.max_tokens = max_tokens
        self._tokenizer, self._device = tokenizer, device
        self._splitter = TextSplitter(tokenizer, tokenizer.starts_in_thinking(request.ids), request.stop)
        self._thought_before = self._thoughts_ended = 0  # thinking tokens in `begun`; in it and since
        for token_id in request.begun:
            was_thinking = self._splitter.in_thinking
            self._splitter.push(token_id)
            self._thought_before += was_thinking
            self._thoughts_ended += was_thinking and not self._splitter.in_thinking
        self._answered_before = len(request.begun) - self._thought_before
        self._had_stopped = not request.ignore_stop_ids and not tokenizer.stop_ids.isdisjoint(request.begun)
        self._key = RandomKey(request.sampling.seed, request.stage, request.candidate)
        self._seen = SeenIds(request.sampling.repetition_penalty, tokenizer.unpenalised_ids)
        self._seen.add(*self.prompt)
        self._additions = Additions(request.sampling, request.logit_bias, tokenizer.unpenalised_ids)
        self._additions.count(*request.begun)
        self.tokens: list[int] = []
        self._forced: list[int] = []  # what is still to come of a thinking's forced end
        self.cache: Cache | None = None
        self.parked: ParkedCache | None = None
        self.logits: Tensor | None = None
        self.position = self.cached = self.scored = 0
        self.uncached = len(self.prompt)
        self.cuts: deque[int] = deque()
        self._completion_tokens = self._thinking_tokens = 0
        self._sampled_tokens, self._logprob_sum = 0, 0.0
        self._thinking_was_cut = self._is_to_close = False
        self.prompt_seconds = self.decode_seconds = 0.0
        self._submitted = time.perf_counter()
        self._seconds_to_first_token = 0.0
        self._queue_seconds: float | None = None
        self.has_ended, self.keeps_state = False, request.keep_state

    @property
    def completion_tokens(self) -> int:
        """Tokens generated so far."""
        return self._completion_tokens

    @property
    def thinking_tokens(self) -> int:
        """How many of them are thinking."""
        return self._thinking_tokens

    @property
    def is_thinking(self) -> bool:
        """Whether the next token belongs to a thought."""
        return self._splitter.in_thinking

    @property
    def may_reuse(self) -> bool:
        """Whether it may go on from a kept prefix: not where every token of the prompt is to be scored."""
        return self.request.prompt_logprobs is None

    def forget_state(self) -> None:
        """Give all blocks back; the prompt is to be computed again."""
        self.cache, self.parked, self.logits, self.position, self.cached = None, None, None, 0, 0

    def begin_prompt(self) -> None:
        """It waits no more; the first time ends its time in the queue."""
        if self._queue_seconds is None:
            self._queue_seconds = time.perf_counter() - self._submitted

    @property
    def is_late(self) -> bool:
        """Whether its deadline is over."""
        deadline = self.request.deadline_seconds
        return deadline is not None and time.perf_counter() - self._submitted >= deadline

    def begin_answer(self) -> None:
        """The prompt is computed: the first token comes out of it."""
        self._seconds_to_first_token = time.perf_counter() - self._submitted

    @property
    def reason_to_end(self) -> FinishReason | None:
        """Why no token comes after those there are: also when `begun` has come to an end."""
        if self._had_stopped or self._splitter.stopped_by is not None:
            return "stop"
        budget = self.request.answer_budget
        if budget is not None and not self._splitter.in_thinking:
            if budget == 0:
                return "stop"  # the thinking was all that was wanted
            if self._answered_before + self._completion_tokens - self._thinking_tokens >= budget:
                return "length"
        return "length" if self._completion_tokens >= self.max_tokens else None

    def next_draw(self) -> RowDraw:
        """What to choose the next token by."""
        self._force_end_of_thinking()
        return RowDraw(
            params=self.request.sampling,
            key=self._key,
            step=len(self.request.begun) + self._completion_tokens,
            forced=self._forced[0] if self._forced else None,
            top_logprobs=self.request.top_logprobs,
            seen=self._seen.tensor,
            bias=self._additions.by_id,
        )

    def end_thinking(self) -> None:
        """Close the thought that is open, as at its budget; nothing where none is."""
        self._is_to_close = self._splitter.in_thinking

    def closes_instead(self, drawn: Drawn | Exception | None) -> bool:
        """Whether a stop id was chosen in whose place the first thought is closed; `next_draw` then asks for that."""
        if (
            not isinstance(drawn, Drawn)
            or self.request.stop_in_thinking == "end"
            or self.request.ignore_stop_ids
            or drawn.token_id not in self._tokenizer.stop_ids
            or self._forced
            or self._thoughts_ended
            or not self._splitter.in_thinking
        ):
            return False
        self._force_think_end()
        return True

    def advance(self, drawn: Drawn | Exception | None) -> list[Event]:
        """Report the token that was chosen as `next_draw` says, or the end where there was none to choose.

        Raises the error that came in place of a token.
        """
        if drawn is None:
            return self.finish(self.reason_to_end or "stop")
        if isinstance(drawn, Exception):
            raise drawn
        self._completion_tokens += 1
        if self._forced:
            self._forced.pop(0)
        else:
            self._sampled_tokens += 1
            self._logprob_sum += drawn.logprob
        if drawn.token_id in self._tokenizer.stop_ids and not self.request.ignore_stop_ids:
            return self.finish("stop")
        events: list[Event] = [TokenEvent(self.id, drawn.token_id, drawn.logprob, drawn.top_logprobs)]
        events += self._append(drawn.token_id)
        reason = self.reason_to_end
        return events + (self.finish(reason) if reason else [])

    def finish(self, reason: FinishReason) -> list[Event]:
        """What was held back of the text, and the end."""
        texts = self._texts(self._splitter.flush())
        stats = self._stats(peak_memory_bytes(self._device))
        self.has_ended = True
        return [*texts, Finished(self.id, reason, stats, self._splitter.stopped_by)]

    def _append(self, token_id: int) -> list[Event]:
        was_thinking = self._splitter.in_thinking
        self._thinking_tokens += was_thinking
        self.tokens.append(token_id)
        self._seen.add(token_id)
        self._additions.count(token_id)
        events = self._texts(self._splitter.push(token_id))
        if was_thinking and not self._splitter.in_thinking:
            self._is_to_close = False
            self._thoughts_ended += 1
            seconds = time.perf_counter() - self._submitted - self._seconds_to_first_token
            tokens = self._thought_before + self._thinking_tokens
            events.append(ThinkingEnded(self.id, tokens, seconds, self._thinking_was_cut))
        return events

    def _force_end_of_thinking(self) -> None:
        budget = self.request.thinking_budget
        if self._forced or not self._splitter.in_thinking:
            return
        is_over = budget is not None and self._thought_before + self._thinking_tokens >= budget
        if is_over or self._is_to_close:
            self._thinking_was_cut = True
            self._force_think_end()

    def _force_think_end(self) -> None:
        end = self._tokenizer.think_end_id
        self._forced = self._tokenizer.encode(THINK_END) if end is None else [end]

    def _texts(self, pieces: Sequence[TextPiece]) -> list[Event]:
        return [TextEvent(self.id, piece.kind, piece.text) for piece in pieces]

    def _stats(self, peak_memory: int) -> Stats:
        waited = self._queue_seconds
        return Stats(
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached,
            prefilled_tokens=self.position - self.cached,
            completion_tokens=self._completion_tokens,
            thinking_tokens=self._thinking_tokens,
            prompt_seconds=self.prompt_seconds,
            decode_seconds=self.decode_seconds,
            seconds_to_first_token=self._seconds_to_first_token,
            peak_memory_bytes=peak_memory,
            mean_logprob=self._logprob_sum / self._sampled_tokens if self._sampled_tokens else 0.0,
            queue_seconds=time.perf_counter() - self._submitted if waited is None else waited,
        )
