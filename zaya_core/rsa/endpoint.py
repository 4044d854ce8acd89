"""Rollouts by a server that speaks OpenAI's protocol (vLLM, SGLang, llama.cpp, `transformers serve`).

Best is `/v1/completions` with the prompt as ids: the thinking is then asked for up to its budget, closed here, and the
answer asked for in a second request. Next best is the same with the prompt as text, if the server makes as many tokens
of it as we do. What is left are chat completions, where nothing can be closed. What a server has is found out by
requests of one token.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from zaya_core.errors import NetworkError, UsageError
from zaya_core.known_ids import common_length
from zaya_core.rsa.canary import CHUNK, LEAST_RATIO, compression_ratio
from zaya_core.rsa.params import PromptSizes
from zaya_core.rsa.rollouts import (
    Messages,
    Rollout,
    RolloutEvent,
    RolloutFinished,
    RolloutRequest,
    RolloutStarted,
    RolloutText,
)
from zaya_core.rsa.tails import last_tokens
from zaya_core.sampling import RandomKey, SamplingParams
from zaya_core.stream import Kind
from zaya_core.tokenizer import THINK_END, THINK_START, Tokenizer

_SEEDS = (1 << 63) + 1  # a step that no sampled token and no subset ever has
_POLL_SECONDS = 0.2
_MALFORMED_AGAIN = 2  # what is not JSON is asked for again so often; the client library repeats the rest
_PROBE = ({"role": "user", "content": "1 + 1"},)
_NOT_THERE = (404, 405, 501)
_NOT_UNDERSTOOD = (400, 415, 422)


@dataclass(frozen=True)
class Dialect:
    """How a server is asked. kind: prompt as ids, as text, or as chat messages; extended: vLLM's extra fields."""

    kind: str
    extended: bool
    drops_bos: bool = False


_DIALECTS = (Dialect("ids", True), Dialect("ids", False), Dialect("text", True), Dialect("text", False))


@dataclass(frozen=True)
class _Piece:
    """One response: its text, why it ended, and its figures."""

    text: str
    reasoning: str
    is_cut: bool
    prompt_tokens: int
    tokens: int
    logprobs: tuple[float, ...]


class EndpointGenerator:
    """A `Generator` that asks a server, at most `parallel` requests at once.

    State: the requests that wait, events that worker threads have left, and which rollouts are open. Workers end with
    the program. `notes` says what the server lacks, in sentences for people.
    """

    def __init__(
        self,
        url: str,
        tokenizer: Tokenizer,
        context: int,
        model: str | None = None,
        parallel: int = 16,
        retries: int = 4,
        timeout: float = 3600.0,
    ):
        """model: its name on the server; without it the first that the server lists.

        Raises: UsageError without the `openai` package or for what is no URL; NetworkError when nothing answers.
        """
        self.url = url
        self.tokenizer = tokenizer
        self.context = context
        self.notes: list[str] = []
        self._client = _client(url, retries, timeout)
        self.model = model or self._first_model()
        self.dialect = self._find_dialect()
        self._jobs: queue.Queue[tuple[int, RolloutRequest]] = queue.Queue()
        self._events: queue.Queue[tuple[int, RolloutEvent]] = queue.Queue()
        self._open: dict[tuple[int, int], RolloutRequest] = {}
        self._generation = 0  # what was submitted before the last `stop` is of an older one
        for _ in range(parallel):
            threading.Thread(target=self._work, daemon=True).start()

    # --- the protocol -------------------------------------------------------------------------------------------------

    def measure(self, question: Messages, aggregation: Messages) -> PromptSizes:
        """See `Generator`."""
        plain, longer = map(self.tokenizer.render_chat, (question, aggregation))
        return PromptSizes(len(plain), len(longer), common_length(plain, longer))

    def submit(self, request: RolloutRequest) -> None:
        """See `Generator`."""
        self._open[request.stage, request.candidate] = request
        self._jobs.put((self._generation, request))

    def advance(self) -> list[RolloutEvent]:
        """See `Generator`; waits for a moment when nothing has happened."""
        events: list[RolloutEvent] = []
        try:
            waits = bool(self._open)
            while True:
                generation, event = self._events.get(waits, _POLL_SECONDS)
                waits = False
                if generation == self._generation:
                    self._note_end(event)
                    events.append(event)
        except queue.Empty:
            return events

    def stop(self) -> None:
        """See `Generator`. What the server still computes is dropped."""
        stopped = list(self._open.values())
        self._generation += 1
        for request in stopped:
            self._events.put((self._generation, RolloutFinished(_rollout(request, state="stopped"))))

    def _note_end(self, event: RolloutEvent) -> None:
        if isinstance(event, RolloutFinished):
            self._open.pop((event.rollout.stage, event.rollout.candidate), None)

    def _work(self) -> None:
        while True:
            generation, request = self._jobs.get()
            if generation == self._generation:
                for event in self._rollout_events(request):
                    self._events.put((generation, event))

    # --- one rollout --------------------------------------------------------------------------------------------------

    def _rollout_events(self, request: RolloutRequest) -> list[RolloutEvent]:
        self._events.put((self._generation, RolloutStarted(request.stage, request.candidate)))
        started = time.perf_counter()
        try:
            rollout = self._chat(request) if self.dialect.kind == "chat" else self._complete(request)
        except NetworkError as error:
            rollout = _rollout(request, state="failed", error=str(error))
        seconds = time.perf_counter() - started
        rollout = replace(rollout, seconds=seconds, decode_seconds=seconds)
        kind: Kind = "answer" if rollout.answer else "thinking"
        text = rollout.answer or rollout.thinking
        counted = RolloutText(request.stage, request.candidate, rollout.completion_tokens, kind, text)
        return [counted, RolloutFinished(rollout)]

    def _complete(self, request: RolloutRequest) -> Rollout:
        """The thinking up to its budget, then, where it is wanted, the answer."""
        prompt = self._prompt(request.messages)
        thought = self._completion(prompt, request, request.think, 0, stop=[THINK_END])
        thinking, _, rest = thought.text.partition(THINK_END)
        if rest.strip():  # the server did not stop at the marker
            return self._finished(request, thinking, rest, thought)
        if not request.answer:
            return self._finished(request, thinking, "", thought)
        return self._answer(request, prompt, thinking, thought)

    def _answer(self, request: RolloutRequest, prompt: list[int] | str, thinking: str, thought: _Piece) -> Rollout:
        if isinstance(prompt, str):
            closed: list[int] | str = prompt + thinking + THINK_END
        else:
            end = self.tokenizer.think_end_id
            marker = self.tokenizer.encode(THINK_END) if end is None else [end]
            closed = [*prompt, *self.tokenizer.encode(thinking), *marker]
        answer = self._completion(closed, request, request.answer, 1)
        return self._finished(request, thinking, answer.text, thought, answer)

    def _chat(self, request: RolloutRequest) -> Rollout:
        fields = {
            "messages": [dict(message) for message in request.messages],
            "max_tokens": request.think + request.answer,
            **self._sampling(request, 0),
        }
        piece = self._ask("/chat/completions", fields)
        text, reasoning = piece.text, piece.reasoning
        before, marker, after = text.partition(THINK_END)
        if marker and not reasoning:
            reasoning, text = before.strip().removeprefix(THINK_START), after
        elif text.lstrip().startswith(THINK_START) and not reasoning:
            reasoning, text = text.lstrip().removeprefix(THINK_START), ""
        return self._finished(request, reasoning, text, piece)

    def _finished(self, request: RolloutRequest, thinking: str, answer: str, *pieces: _Piece) -> Rollout:
        thinking, answer = thinking.strip("\n"), answer.strip("\n")
        ids = self.tokenizer.encode(thinking)
        chunks = [ids[start : start + CHUNK] for start in range(0, len(ids) - CHUNK + 1, CHUNK)]
        loops = any(compression_ratio(chunk) < LEAST_RATIO for chunk in chunks)
        logprobs = [logprob for piece in pieces for logprob in piece.logprobs]
        return _rollout(
            request,
            state="loop" if loops else "cut" if any(piece.is_cut for piece in pieces) else "done",
            thinking=thinking,
            answer=answer,
            tail=last_tokens(ids, request.tail, self.tokenizer) or answer,
            prompt_tokens=pieces[0].prompt_tokens,
            thinking_tokens=len(ids),
            completion_tokens=sum(piece.tokens for piece in pieces),
            answer_was_cut=bool(answer) and pieces[-1].is_cut,
            mean_logprob=sum(logprobs) / len(logprobs) if logprobs else None,
        )

    # --- requests -----------------------------------------------------------------------------------------------------

    def _prompt(self, messages: Messages) -> list[int] | str:
        if self.dialect.kind == "ids":
            return self.tokenizer.render_chat(messages)
        text = self.tokenizer.render_chat_text(messages)
        return text.removeprefix(_bos_text(self.tokenizer)) if self.dialect.drops_bos else text

    def _completion(
        self,
        prompt: list[int] | str,
        request: RolloutRequest,
        max_tokens: int,
        part: int,
        stop: list[str] | None = None,
    ) -> _Piece:
        fields: dict[str, Any] = {"prompt": prompt, "max_tokens": max_tokens, **self._sampling(request, part)}
        if stop:
            fields["stop"] = stop
        return self._ask("/completions", fields)

    def _sampling(self, request: RolloutRequest, part: int) -> dict[str, Any]:
        params: SamplingParams = request.sampling
        key = RandomKey(params.seed, request.stage, request.candidate)
        fields: dict[str, Any] = {
            "model": self.model,
            "temperature": 0.0 if params.is_greedy else params.temperature,
            "top_p": params.top_p or 1.0,  # servers refuse 0
            "seed": int(key.uniform(_SEEDS, part) * (1 << 31)),
        }
        if self.dialect.extended:
            fields |= _extended_fields(params)
        return fields

    def _ask(self, path: str, fields: Mapping[str, Any]) -> _Piece:
        """Post a request, again while the answer is not what the protocol says. Raises NetworkError."""
        problem = ""
        for _ in range(1 + _MALFORMED_AGAIN):
            try:
                return _read_response(self._post(path, fields))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                problem = f"{type(error).__name__}: {error}"
        raise NetworkError(f"{self.url} answers with what is not the OpenAI protocol ({problem[:200]}).")

    def _post(self, path: str, fields: Mapping[str, Any]) -> Any:
        import openai

        try:
            return json.loads(self._client.post(path, body=dict(fields), cast_to=str))
        except openai.APIStatusError as error:
            raise StatusError(self.url, error.status_code, _detail(error)) from None
        except openai.APIError as error:
            reason = error.__cause__ or error
            raise NetworkError(f"{self.url} does not answer ({_one_line(reason)}); the request was repeated.") from None

    def _first_model(self) -> str:
        import openai

        try:
            models = [model.id for model in self._client.models.list()]
        except openai.APIStatusError as error:
            failure = StatusError(self.url, error.status_code, _detail(error))
            raise NetworkError(f"{failure} To do without its list of models, name one with --endpoint-model.") from None
        except (openai.APIError, ValueError, TypeError, AttributeError) as error:
            reason = _one_line(error.__cause__ or error)
            raise NetworkError(f"No OpenAI-compatible server answers at {self.url}: {reason}.") from None
        if not models:
            raise NetworkError(f"{self.url} lists no models: name one with --endpoint-model.")
        return models[0]

    def _find_dialect(self) -> Dialect:
        """Ask for one token in each dialect until one is understood."""
        probe = RolloutRequest(0, 0, (), _PROBE, 1, 0, 1, 0, SamplingParams())
        for dialect in _DIALECTS:
            try:
                found = self._try(dialect, probe)
            except StatusError as error:
                if error.status in _NOT_THERE:
                    break
                if error.status not in _NOT_UNDERSTOOD:
                    raise
                continue
            if found is not None:
                self._say_what_is_lost(found)
                return found
        self.dialect = Dialect("chat", False)
        self._chat(probe)
        self.notes.append(
            f"{self.url} has no /v1/completions that takes a prompt as it is, so chat completions are used: a thought "
            "cannot be closed at its budget, min-p is not applied, and ties are not broken by probability."
        )
        return self.dialect

    def _try(self, dialect: Dialect, probe: RolloutRequest) -> Dialect | None:
        """The dialect if the server counts as many prompt tokens as we do; it may put a BOS of its own in front."""
        self.dialect = dialect
        seen = self._completion(self._prompt(probe.messages), probe, 1, 0).prompt_tokens
        expected = len(self.tokenizer.render_chat(probe.messages))
        if dialect.kind == "ids" or seen == expected:
            return dialect
        return replace(dialect, drops_bos=True) if seen == expected + 1 else None

    def _say_what_is_lost(self, dialect: Dialect) -> None:
        if not dialect.extended:
            self.notes.append(f"{self.url}: it refuses min-p and log-probabilities: neither is used.")


class StatusError(NetworkError):
    """A server answered with an error status, after the client library's repetitions."""

    def __init__(self, url: str, status: int, detail: str):
        hint = " Set OPENAI_API_KEY." if status in (401, 403) else ""
        super().__init__(f"{url} answered {status} ({detail}).{hint}")
        self.status = status


def _client(url: str, retries: int, timeout: float) -> Any:
    try:
        import openai
    except ImportError:
        raise UsageError("--endpoint needs the openai package: type `pip install openai`.") from None
    import os

    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--endpoint {url} is no URL: give one such as http://localhost:8000/v1.")
    key = os.environ.get("OPENAI_API_KEY") or "none"
    return openai.OpenAI(base_url=url.rstrip("/"), api_key=key, max_retries=retries, timeout=timeout)


def _extended_fields(params: SamplingParams) -> dict[str, Any]:
    """What vLLM and SGLang know beyond the protocol, and log-probabilities, which not all servers accept."""
    return {
        "min_p": params.min_p,
        "top_k": params.top_k or -1,
        "repetition_penalty": params.repetition_penalty,
        "skip_special_tokens": False,  # or the end of the thinking could not be seen
        "logprobs": 1,
    }


def _read_response(value: Any) -> _Piece:
    choice = value["choices"][0]
    message = choice.get("message") or {}
    text = message.get("content") if message else choice["text"]
    usage = value.get("usage") or {}
    logprobs = (choice.get("logprobs") or {}).get("token_logprobs") or ()
    return _Piece(
        text=text or "",
        reasoning=message.get("reasoning_content") or message.get("reasoning") or "",
        is_cut=choice.get("finish_reason") == "length",
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        tokens=int(usage.get("completion_tokens") or 0),
        logprobs=tuple(float(logprob) for logprob in logprobs if logprob is not None),
    )


def _rollout(request: RolloutRequest, **fields: Any) -> Rollout:
    return Rollout(request.stage, request.candidate, request.subset, request.sampling.seed, **fields)


def _bos_text(tokenizer: Tokenizer) -> str:
    return "" if tokenizer.bos_id is None else tokenizer.token_text(tokenizer.bos_id)


def _detail(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        body = body.get("detail") or body.get("message") or body
    return _one_line(body or error)


def _one_line(value: object) -> str:
    return " ".join(str(value).split())[:200].rstrip(".")
