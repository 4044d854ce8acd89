"""A rollout out of a server's replies, or out of what there was when it was ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zaya_core.rsa.canary import CHUNK, LEAST_RATIO, compression_ratio
from zaya_core.rsa.endpoint.faults import ServerFault
from zaya_core.rsa.endpoint.reply import Reply
from zaya_core.rsa.endpoint.watch import Watch
from zaya_core.rsa.rollouts import Rollout, RolloutRequest, RolloutState, reason_of
from zaya_core.rsa.tails import handed_on
from zaya_core.text.token_names import THINK_END, THINK_START
from zaya_core.text.tokenizer import Tokenizer


def split_chat(text: str, reasoning: str) -> tuple[str, str]:
    """Thinking and answer of a chat's message, whose content may hold both."""
    if reasoning:
        return reasoning, text
    before, marker, after = text.partition(THINK_END)
    if marker:
        return before.strip().removeprefix(THINK_START), after
    if text.lstrip().startswith(THINK_START):
        return text.lstrip().removeprefix(THINK_START), ""
    return "", text


def finished(request: RolloutRequest, tokenizer: Tokenizer, thinking: str, answer: str, *replies: Reply) -> Rollout:
    """A rollout that came to its end."""
    logprobs = [logprob for reply in replies for logprob in reply.logprobs]
    texts = _texts(tokenizer, thinking, answer)
    counted = replies[0].prompt_tokens
    is_cut = any(reply.is_cut for reply in replies)
    state: RolloutState = "loop" if _loops(tokenizer.encode(texts["thinking"])) else "cut" if is_cut else "done"
    return _rollout(
        request,
        state=state,
        tail=_tail(request, state, texts, tokenizer),
        **texts,
        prompt_tokens=len(tokenizer.render_chat(request.messages)) if counted is None else counted,
        completion_tokens=sum(tokens_of(reply, tokenizer) for reply in replies),
        is_estimate=counted is None or any(reply.tokens is None for reply in replies),
        answer_was_cut=bool(texts["answer"]) and replies[-1].is_cut,
        mean_logprob=sum(logprobs) / len(logprobs) if logprobs else None,
    )


def unfinished(watch: Watch, tokenizer: Tokenizer, is_chat: bool, error: Exception | None = None) -> Rollout:
    """A rollout that was stopped, or that an error ended, with what there was.

    After a server's fault it counts as cut if what was wanted is there in part: an answer, or a thought where no answer
    was asked for.
    """
    request, texts = watch.request, watch.texts
    thinking, answer = texts["thinking"], texts["answer"]
    if is_chat:
        thinking, answer = split_chat(answer, thinking)
    fields = _texts(tokenizer, thinking, answer)
    is_usable = isinstance(error, ServerFault) and bool(fields["answer" if request.answer else "thinking"].strip())
    state: RolloutState = "stopped" if error is None else "cut" if is_usable else "failed"
    return _rollout(
        request,
        state=state,
        error=None if error is None else reason_of(error),
        tail=_tail(request, state, fields, tokenizer),
        **fields,
        completion_tokens=(tokens := fields["thinking_tokens"] + len(tokenizer.encode(fields["answer"]))),
        is_estimate=tokens > 0,
        answer_was_cut=bool(fields["answer"]),
    )


def failed(request: RolloutRequest, error: Exception) -> Rollout:
    """A rollout that an error ended, of which nothing is known."""
    return _rollout(request, state="failed", error=reason_of(error))


def tokens_of(reply: Reply, tokenizer: Tokenizer) -> int:
    """As the server counts, else as our tokenizer does."""
    if reply.tokens is not None:
        return reply.tokens
    return sum(len(tokenizer.encode(text)) for text in (reply.reasoning, reply.text) if text)


def _texts(tokenizer: Tokenizer, thinking: str, answer: str) -> dict[str, Any]:
    thinking, answer = thinking.strip("\n"), answer.strip("\n")
    return {"thinking": thinking, "answer": answer, "thinking_tokens": len(tokenizer.encode(thinking))}


def _tail(request: RolloutRequest, state: RolloutState, texts: Mapping[str, Any], tokenizer: Tokenizer) -> str:
    return handed_on(request, state, tokenizer.encode(texts["thinking"]), texts["answer"], tokenizer)


def _loops(ids: list[int]) -> bool:
    chunks = [ids[start : start + CHUNK] for start in range(0, len(ids) - CHUNK + 1, CHUNK)]
    return any(compression_ratio(chunk) < LEAST_RATIO for chunk in chunks)


def _rollout(request: RolloutRequest, **fields: Any) -> Rollout:
    return Rollout(request.stage, request.candidate, request.subset, request.sampling.seed, **fields)
