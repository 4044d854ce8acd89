"""Many rollouts at once: threads that hold one conversation each, and the events they leave."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from zaya_core.rsa.endpoint.conversation import Asked, ContextShrank, Conversation
from zaya_core.rsa.endpoint.outcome import failed, unfinished
from zaya_core.rsa.endpoint.server import Finder, Wait
from zaya_core.rsa.endpoint.watch import Abandoned, Watch
from zaya_core.rsa.params import PromptSizes
from zaya_core.rsa.rollouts import (
    Messages,
    Rollout,
    RolloutEvent,
    RolloutFinished,
    RolloutRequest,
    RolloutReturned,
    RolloutSilent,
    RolloutStarted,
    RolloutText,
)
from zaya_core.text.known_ids import common_length
from zaya_core.text.splitter import Kind
from zaya_core.text.tokenizer import Tokenizer

_POLL_SECONDS = 0.2
_SILENCE_TOLD = 5.0  # seconds; then every second


class EndpointGenerator:
    """A `Generator` that asks a server, at most `parallel` requests at once.

    State: the requests that wait, events that worker threads have left, and which rollouts are open. Workers end with
    the program, or when what they were started for is stopped. `notes` says what the server lacks, in sentences for
    people. `context` becomes smaller when the server's turns out to be.
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
        clock: Callable[[], float] = time.monotonic,
        wait: Wait = threading.Event.wait,
    ):
        """url: as a person gave it. model: its name on the server; without it the only one, or the one named zaya.

        timeout: seconds without a byte after which a request is given up. clock, wait: how time passes.

        Raises: UsageError without the `openai` package, for what is no URL and where the model is to be named, or named
        otherwise; NetworkError when nothing answers.
        """
        server = Finder(tokenizer, model, retries, timeout, wait).find(url)
        self.url = server.client.where
        self.tokenizer = tokenizer
        self.model, self.dialect = server.model, server.dialect
        self.notes = list(server.notes)
        self.context = context
        if server.context is not None and server.context < context:
            self.context = server.context
            self.notes.append(
                f"{self.model} at {self.url} has a context of {self.context:,} tokens, not of {context:,}."
            )
        self._asked = Asked(server.client, self.model, self.dialect, tokenizer, self.context, retries, self._learn)
        self._clock, self._wait, self._parallel = clock, wait, parallel
        self._lock = threading.Lock()  # of `context`, which workers make smaller
        self._begin()

    def _begin(self) -> None:
        """New queues and, with the first rollout, new workers: old ones may hang on a server that is silent."""
        self._jobs: queue.Queue[Watch | None] = queue.Queue()
        self._events: queue.Queue[RolloutEvent] = queue.Queue()
        self._open: dict[tuple[int, int], Watch] = {}
        self._has_workers = False

    # --- the protocol -------------------------------------------------------------------------------------------------

    def measure(self, question: Messages, aggregation: Messages) -> PromptSizes:
        """See `Generator`."""
        plain, longer = map(self.tokenizer.render_chat, (question, aggregation))
        return PromptSizes(len(plain), len(longer), common_length(plain, longer))

    def submit(self, request: RolloutRequest) -> None:
        """See `Generator`."""
        events = self._events

        def on_text(kind: Kind, text: str) -> None:
            events.put(RolloutText(request.stage, request.candidate, 1, kind, text))

        watch = Watch(request, self.context, self._clock, self._wait, on_text)
        self._open[request.stage, request.candidate] = watch
        self._jobs.put(watch)
        if not self._has_workers:
            self._has_workers = True
            for _ in range(self._parallel):
                threading.Thread(target=_work, args=(self._jobs, events, self._run), daemon=True).start()

    def advance(self) -> list[RolloutEvent]:
        """See `Generator`; waits for a moment when nothing has happened."""
        events: list[RolloutEvent] = []
        try:
            events.append(self._events.get(bool(self._open), _POLL_SECONDS))
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            pass
        for event in events:
            if isinstance(event, RolloutFinished):
                self._open.pop((event.rollout.stage, event.rollout.candidate), None)
            elif isinstance(event, RolloutReturned):
                self._open.pop((event.stage, event.candidate), None)
        return [*events, *self._silences()]

    def stop(self) -> None:
        """See `Generator`. The requests on their way are given up as soon as something comes of them."""
        stopped = list(self._open.values())
        for _ in range(self._parallel):
            self._jobs.put(None)
        self._begin()
        for watch in stopped:
            watch.abandoned.set()
            self._events.put(RolloutFinished(unfinished(watch, self.tokenizer, self.dialect.kind == "chat")))

    def _silences(self) -> Iterator[RolloutSilent]:
        """Which open rollouts have waited how long, each second anew."""
        for watch in self._open.values():
            silence = watch.silence
            if silence >= max(_SILENCE_TOLD, watch.reported + 1):
                watch.reported = silence
                yield RolloutSilent(watch.request.stage, watch.request.candidate, silence)

    # --- one rollout, in a worker's thread ----------------------------------------------------------------------------

    def _learn(self, context: int) -> None:
        with self._lock:
            self.context = min(self.context, context)

    def _run(self, watch: Watch) -> Iterator[RolloutEvent]:
        request, started = watch.request, self._clock()
        if self.context < watch.context:  # it became smaller while the rollout waited
            yield RolloutReturned(request.stage, request.candidate)
            return
        yield RolloutStarted(request.stage, request.candidate)
        try:
            rollout = Conversation(replace(self._asked, context=watch.context), watch).rollout()
        except Abandoned:
            return
        except ContextShrank:
            yield RolloutReturned(request.stage, request.candidate)
            return
        except Exception as error:
            rollout = unfinished(watch, self.tokenizer, self.dialect.kind == "chat", error)
        seconds = self._clock() - started
        yield self._correction(watch, rollout)
        yield RolloutFinished(replace(rollout, seconds=seconds, decode_seconds=seconds))

    def _correction(self, watch: Watch, rollout: Rollout) -> RolloutText:
        """Chunks were counted; now tokens are."""
        kind: Kind = "answer" if rollout.answer else "thinking"
        return RolloutText(rollout.stage, rollout.candidate, rollout.completion_tokens - watch.chunks, kind, "")


def _work(
    jobs: queue.Queue[Watch | None], events: queue.Queue[RolloutEvent], run: Callable[[Watch], Iterator[RolloutEvent]]
) -> None:
    while (watch := jobs.get()) is not None:
        try:
            for event in run(watch) if not watch.abandoned.is_set() else ():
                events.put(event)
        except Exception as error:  # whatever it is: nobody else hears of this thread's end, and the run would wait
            events.put(RolloutFinished(failed(watch.request, error)))
