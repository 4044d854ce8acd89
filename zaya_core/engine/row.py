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
from zaya_core.sampling.sampler import RandomKey, Sampler
from zaya_core.text.splitter import TextPiece, TextSplitter
from zaya_core.text.token_names import THINK_END
from zaya_core.text.tokenizer import Tokenizer


class Row:
    """Chooses the tokens of one request and reports them; the Engine gives it its state and its logits.

    State: `cache` while the prompt is computed (its place is in the batch afterwards), `parked` while that is in host
    memory, `logits` (V) after `position`; `cuts`: positions ahead whose state is to be kept; `keeps_state`: so is the
    last one. `has_ended`: nothing more comes.
    """

    def __init__(self, request_id: int, request: Request, tokenizer: Tokenizer, max_tokens: int, device: torch.device):
        self.id = request_id
        self.request = request
        self.prompt = [*request.ids, *request.begun]
        self.max_tokens = max_tokens
        self._tokenizer, self._device = tokenizer, device
        self._splitter = TextSplitter(tokenizer, tokenizer.starts_in_thinking(request.ids), request.stop)
        self._thought_before = 0  # thinking tokens in `begun`
        for token_id in request.begun:
            self._thought_before += self._splitter.in_thinking
            self._splitter.push(token_id)
        self._answered_before = len(request.begun) - self._thought_before
        self._had_stopped = not request.ignore_stop_ids and not tokenizer.stop_ids.isdisjoint(request.begun)
        key = RandomKey(request.sampling.seed, request.stage, request.candidate)
        self._sampler = Sampler(request.sampling, key, request.top_logprobs, tokenizer.unpenalised_ids)
        self._sampler.observe(*self.prompt)
        self.tokens: list[int] = []
        self._forced: list[int] = []
        self.cache: Cache | None = None
        self.parked: ParkedCache | None = None
        self.logits: Tensor | None = None
        self.position = self.cached = 0
        self.cuts: deque[int] = deque()
        self._completion_tokens = self._thinking_tokens = 0
        self._sampled_tokens, self._logprob_sum = 0, 0.0
        self._thinking_was_cut = False
        self.prompt_seconds = self.decode_seconds = 0.0
        self._submitted = time.perf_counter()
        self._seconds_to_first_token = 0.0
        self.has_ended, self.keeps_state = False, request.keep_state

    def forget_state(self) -> None:
        """Give all blocks back; the prompt is to be computed again."""
        self.cache, self.parked, self.logits, self.position, self.cached = None, None, None, 0, 0

    def begin_answer(self) -> None:
        """The prompt is computed: the first token comes out of it."""
        self._seconds_to_first_token = time.perf_counter() - self._submitted

    def advance(self, logits: Tensor) -> list[Event]:
        """Choose the next token and report it, or the end when `begun` has come to one.

        logits: (V). Raises CheckpointError when they are no numbers.
        """
        if (reason := self._reason_to_end()) is not None:
            return self.finish(reason)
        self._force_end_of_thinking()
        forced = self._forced.pop(0) if self._forced else None
        step = len(self.request.begun) + self._completion_tokens
        sampled = self._sampler.sample(logits, step=step, forced=forced)
        self._completion_tokens += 1
        if forced is None:
            self._sampled_tokens += 1
            self._logprob_sum += sampled.logprob
        if sampled.token_id in self._tokenizer.stop_ids and not self.request.ignore_stop_ids:
            return self.finish("stop")
        events: list[Event] = [TokenEvent(self.id, sampled.token_id, sampled.logprob, sampled.top_logprobs)]
        events += self._take(sampled.token_id)
        reason = self._reason_to_end()
        return events + (self.finish(reason) if reason else [])

    def finish(self, reason: FinishReason) -> list[Event]:
        """What was held back of the text, and the end."""
        texts = self._texts(self._splitter.flush())
        stats = self._stats(peak_memory_bytes(self._device))
        self.has_ended = True
        return [*texts, Finished(self.id, reason, stats, self._splitter.stopped_by)]

    def _take(self, token_id: int) -> list[Event]:
        was_thinking = self._splitter.in_thinking
        self._thinking_tokens += was_thinking
        self.tokens.append(token_id)
        self._sampler.observe(token_id)
        events = self._texts(self._splitter.push(token_id))
        if was_thinking and not self._splitter.in_thinking:
            seconds = time.perf_counter() - self._submitted - self._seconds_to_first_token
            tokens = self._thought_before + self._thinking_tokens
            events.append(ThinkingEnded(self.id, tokens, seconds, self._thinking_was_cut))
        return events

    def _reason_to_end(self) -> FinishReason | None:
        if self._had_stopped or self._splitter.stopped_by is not None:
            return "stop"
        budget = self.request.answer_budget
        if budget is not None and not self._splitter.in_thinking:
            if budget == 0:
                return "stop"  # the thinking was all that was wanted
            if self._answered_before + self._completion_tokens - self._thinking_tokens >= budget:
                return "length"
        return "length" if self._completion_tokens >= self.max_tokens else None

    def _force_end_of_thinking(self) -> None:
        budget = self.request.thinking_budget
        if budget is None or self._forced or not self._splitter.in_thinking:
            return
        if self._thought_before + self._thinking_tokens < budget:
            return
        end = self._tokenizer.think_end_id
        self._thinking_was_cut = True
        self._forced = self._tokenizer.encode(THINK_END) if end is None else [end]

    def _texts(self, pieces: Sequence[TextPiece]) -> list[Event]:
        return [TextEvent(self.id, piece.kind, piece.text) for piece in pieces]

    def _stats(self, peak_memory: int) -> Stats:
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
        )
