"""The one thread that touches the Engine: commands, a step, and what happened in it handed over at once."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from zaya_cli.serve.job import Filter
from zaya_cli.serve.mailbox import Mailbox
from zaya_core.engine.engine import Engine
from zaya_core.engine.events import Event, Failed, Finished
from zaya_core.errors import GenerationError

Delivery = tuple[Mailbox, int, Event]
"""For whom, of which choice, and what happened."""


@dataclass(frozen=True)
class _Place:
    """Where the events of one of the Engine's requests go."""

    mailbox: Mailbox
    index: int
    filter: Filter | None


class EngineThread:
    """Steps the Engine while it has work; without any it waits for a command and takes no processor time.

    State: commands that are to be done before the next step, and where the events of open requests go.
    """

    def __init__(self, engine: Engine, deliver: Callable[[list[Delivery]], None]):
        """deliver: called in the event loop's thread."""
        self._engine, self._deliver = engine, deliver
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._afterwards: list[Callable[[], None]] = []
        self._places: dict[int, _Place] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; events are delivered in `loop`."""
        self._loop = loop
        self._thread.start()

    def close(self) -> None:
        """End after the step that is being done, and wait for it."""
        self._commands.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def do(self, command: Callable[[], None]) -> None:
        """Run a command in the engine thread before the next step; it raises nothing."""
        self._commands.put(command)

    def do_after_step(self, command: Callable[[], None]) -> None:
        """As `do`, but after the next step, in which rows that are cancelled now come to their end."""
        self.do(lambda: self._afterwards.append(command))

    def submit(self, mailbox: Mailbox) -> None:
        """Give a job to the Engine."""
        self.do(lambda: self._submit(mailbox))

    def cancel(self, mailbox: Mailbox) -> None:
        """End a job at the next token, or layer of its prefill."""
        self._engine.cancel(*mailbox.request_ids)
        self.do(lambda: self._engine.cancel(*mailbox.request_ids))  # the Engine may be about to get it

    def _submit(self, mailbox: Mailbox) -> None:
        job, ids = mailbox.job, []
        for index, request in enumerate(job.requests):
            try:
                id_ = self._engine.submit(request)
            except Exception as error:
                self._hand_over([(mailbox, index, Failed(-1, error))])
                continue
            ids.append(id_)
            self._places[id_] = _Place(mailbox, index, job.filters[index] if job.filters else None)
        mailbox.request_ids = tuple(ids)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._do_commands():
            if not self._engine.is_idle:
                self._hand_over(self._step())
            while self._afterwards:
                self._afterwards.pop()()

    def _do_commands(self) -> bool:
        """False when the thread is to end."""
        with suppress(queue.Empty):
            while True:
                command = self._commands.get(block=self._engine.is_idle and not self._afterwards)
                if command is None:
                    return False
                command()
        return True

    def _step(self) -> list[Delivery]:
        try:
            return [delivery for event in self._engine.step() for delivery in self._addressed(event)]
        except BaseException as error:  # nobody else would hear of it, and all clients would wait
            places, self._places = self._places, {}
            lost = error if isinstance(error, Exception) else GenerationError(type(error).__name__)
            return [(place.mailbox, place.index, Failed(id_, lost)) for id_, place in places.items()]

    def _addressed(self, event: Event) -> list[Delivery]:
        place = self._places.get(event.request_id)
        if place is None:
            return []
        if isinstance(event, (Finished, Failed)):
            del self._places[event.request_id]
        if place.filter is None:
            return [(place.mailbox, place.index, event)]
        events = place.filter.take(event)
        if place.filter.has_stopped:
            self._engine.cancel(event.request_id)
        return [(place.mailbox, place.index, one) for one in events]

    def _hand_over(self, deliveries: list[Delivery]) -> None:
        assert self._loop is not None
        if deliveries:
            with suppress(RuntimeError):  # the loop has been closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._deliver, deliveries)
