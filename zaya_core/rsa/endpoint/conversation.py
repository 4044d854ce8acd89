"""One rollout: its thinking up to its budget, then its answer, each continued where a connection broke."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from zaya_core.errors import NetworkError, PromptTooLongError
from zaya_core.rsa.endpoint.client import Client
from zaya_core.rsa.endpoint.context import context_limit
from zaya_core.rsa.endpoint.dialect import Dialect, seed_of
from zaya_core.rsa.endpoint.faults import BrokenStream, ServerFault, StatusError
from zaya_core.rsa.endpoint.outcome import finished, split_chat
from zaya_core.rsa.endpoint.repetition import Repetition
from zaya_core.rsa.endpoint.reply import Reply
from zaya_core.rsa.endpoint.reply_builder import SLACK, Part
from zaya_core.rsa.endpoint.watch import Watch
from zaya_core.rsa.params import LEAST_BUDGET
from zaya_core.rsa.rollouts import Rollout
from zaya_core.text.splitter import Kind
from zaya_core.text.token_names import THINK_END
from zaya_core.text.tokenizer import Tokenizer

_SHRINKS = 8  # how often a request is asked for with a smaller budget
_NOTHING = Reply(is_whole=False)


class ContextShrank(NetworkError):
    """The server's context is smaller than was thought when the rollout was asked for, which can be asked for again."""


@dataclass(frozen=True)
class Asked:
    """Who is asked, and how.

    context: tokens that prompt and answer may take; on_limit: told when it turns out to be smaller. retries: attempts
    after the first.
    """

    client: Client
    model: str
    dialect: Dialect
    tokenizer: Tokenizer
    context: int
    retries: int
    on_limit: Callable[[int], None]


class Conversation:
    """The requests of one rollout. State: how many of the thinking and of the answer were sent, and were too large."""

    def __init__(self, asked: Asked, watch: Watch):
        self.asked = asked
        self.watch = watch
        self.request = watch.request
        self._sent: dict[Kind, int] = {"thinking": 0, "answer": 0}
        self._shrinks: dict[Kind, int] = {"thinking": 0, "answer": 0}

    def rollout(self) -> Rollout:
        """Hold it. Raises: ServerFault; ContextShrank; PromptTooLongError; Abandoned."""
        return self._chat() if self.asked.dialect.kind == "chat" else self._complete()

    def _complete(self) -> Rollout:
        prompt = self.asked.dialect.prompt(self.asked.tokenizer, self.request.messages)
        thought = self._continued(prompt, self._think_budget(), "thinking", {"stop": [THINK_END]})
        thinking, _, rest = thought.text.partition(THINK_END)
        if rest.strip() or not self.request.answer:  # the server did not stop at the marker; or nobody asks for more
            return finished(self.request, self.asked.tokenizer, thinking, rest, thought)
        answer = self._continued(self._closed(prompt, thinking), self.request.answer, "answer", {})
        return finished(self.request, self.asked.tokenizer, thinking, answer.text, thought, answer)

    def _chat(self) -> Rollout:
        reply = self._repeated(self._think_budget() + self.request.answer)
        thinking, answer = split_chat(reply.text, reply.reasoning)
        return finished(self.request, self.asked.tokenizer, thinking, answer, reply)

    def _closed(self, prompt: list[int] | str, thinking: str) -> list[int] | str:
        if isinstance(prompt, str):
            return prompt + thinking + THINK_END
        end = self.asked.tokenizer.think_end_id
        marker = self.asked.tokenizer.encode(THINK_END) if end is None else [end]
        return [*prompt, *self.asked.tokenizer.encode(thinking), *marker]

    def _think_budget(self) -> int:
        """The thinking's budget; less where tails that were cut inside a word made the prompt a little longer."""
        tokens = len(self.asked.tokenizer.render_chat(self.request.messages))
        room = self.asked.context - tokens - self.request.answer
        if room < 1:
            raise PromptTooLongError(
                f"A prompt of {tokens:,} tokens and an answer of {self.request.answer:,} do not fit into the context "
                f"of {self.asked.context:,}: give a smaller --rsa-tail or --rsa-answer."
            )
        return min(self.request.think, room)

    # --- requests -----------------------------------------------------------------------------------------------------

    def _continued(self, prompt: list[int] | str, budget: int, kind: Kind, fields: Mapping[str, Any]) -> Reply:
        """A completion; what came before a connection broke is kept, and the rest is asked for. Raises ServerFault."""
        patience, so_far = Repetition(self.asked.retries, self.watch.pause), _NOTHING
        while True:
            left = budget - self._count(so_far.text)
            if so_far.text and (left < 1 or THINK_END in so_far.text):
                return replace(so_far, is_cut=left < 1)
            longer = self._joined(prompt, so_far.text)
            try:
                whole = _appended(so_far, self._once({"prompt": longer, **fields}, left, kind, {"text": kind}))
                return self._within(budget, whole)
            except ServerFault as fault:
                came = fault.partial or _NOTHING
                so_far = _appended(so_far, came)
                if (less := self._smaller(fault, longer, left, kind)) is not None:
                    budget -= left - less
                else:
                    patience.after(fault, self.watch.silence, self._count(came.text) >= LEAST_BUDGET)

    def _within(self, budget: int, reply: Reply) -> Reply:
        """The reply, cut where a server went far beyond its budget: what follows it must fit into the context."""
        ids = self._ids(reply.text)
        if len(ids) <= budget + SLACK:
            return reply
        return replace(reply, text=self.asked.tokenizer.decode(ids[:budget]), tokens=None, is_cut=True)

    def _repeated(self, budget: int) -> Reply:
        """A chat completion, which cannot be continued: asked for again; in the end what came most is kept."""
        patience, most = Repetition(self.asked.retries, self.watch.pause), _NOTHING
        messages = [dict(message) for message in self.request.messages]
        ids = self.asked.tokenizer.render_chat(messages)
        while True:
            try:
                kinds: dict[Part, Kind] = {"text": "answer", "reasoning": "thinking"}
                return self._once({"messages": messages}, budget, "thinking", kinds)
            except ServerFault as fault:
                most = max(most, fault.partial or _NOTHING, key=lambda reply: len(reply.text) + len(reply.reasoning))
                self.watch.texts = {"thinking": most.reasoning, "answer": most.text}
                if (less := self._smaller(fault, ids, budget, "thinking")) is not None:
                    budget = less
                else:
                    patience.after(fault, self.watch.silence, has_progressed=False)
                self.watch.texts = {"thinking": "", "answer": ""}

    def _once(self, fields: Mapping[str, Any], budget: int, kind: Kind, kinds: Mapping[Part, Kind]) -> Reply:
        """One request of the rollout's thinking or answer. Raises ServerFault."""
        request, asked = self.request, self.asked
        number = (kind == "answer") + 2 * self._sent[kind]
        self._sent[kind] += 1
        seed = seed_of(request.sampling, request.stage, request.candidate, number)
        everything = {**asked.dialect.fields(asked.model, request.sampling, budget, seed), **fields}
        self.watch.byte()
        reply = asked.client.ask(asked.dialect.path, everything, _Listener(self.watch, kinds))
        if not reply.is_whole and asked.dialect.marks_end:
            fault = BrokenStream(f"{asked.client.where} ended its answer too early (the connection closed).")
            fault.partial = reply
            raise fault
        return reply

    def _smaller(self, fault: ServerFault, prompt: list[int] | str, budget: int, kind: Kind) -> int | None:
        """The budget that a server has room for which refused one for its context; None for any other fault.

        Raises: ContextShrank when the limit is news and all budgets must shrink; the fault when nothing would be left.
        """
        limit = context_limit(fault) if isinstance(fault, StatusError) else None
        if limit is None:
            return None
        is_news = limit.tokens is not None and limit.tokens < self.asked.context
        over = limit.excess
        if limit.tokens is not None:
            over = over or max(0, len(self._ids(prompt)) + budget - limit.tokens)
            self.asked.on_limit(limit.tokens)
        less = budget - (over or (budget + 1) // 2)
        self._shrinks[kind] += 1
        has_room = less >= min(LEAST_BUDGET, budget - 1) and less > 0
        if is_news and (kind == "thinking" or not has_room):
            raise ContextShrank(str(fault)) from None
        if not has_room or self._shrinks[kind] > _SHRINKS:
            raise fault
        return less

    def _joined(self, prompt: list[int] | str, text: str) -> list[int] | str:
        return prompt + text if isinstance(prompt, str) else [*prompt, *self._ids(text)]

    def _ids(self, text: list[int] | str) -> list[int]:
        return self.asked.tokenizer.encode(text) if isinstance(text, str) else text

    def _count(self, text: str) -> int:
        return len(self._ids(text)) if text else 0


@dataclass(frozen=True)
class _Listener:
    """Tells a rollout's watch what arrives. kinds: what each part of a reply is."""

    watch: Watch
    kinds: Mapping[Part, Kind]

    def byte(self) -> None:
        self.watch.byte()

    def text(self, part: Part, text: str) -> None:
        if (kind := self.kinds.get(part)) is not None:
            self.watch.text(kind, text)


def _appended(first: Reply, then: Reply) -> Reply:
    """Both as one; counted by the server only where nothing was broken off."""
    if not first.text:
        return then
    return replace(
        then,
        text=first.text + then.text,
        reasoning=first.reasoning + then.reasoning,
        prompt_tokens=first.prompt_tokens,
        tokens=None,
        logprobs=first.logprobs + then.logprobs,
    )
