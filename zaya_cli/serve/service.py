"""The service: jobs in, mailboxes out, over one Engine that a thread of its own steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

from zaya_cli.runtime import Runtime
from zaya_cli.serve.engine_thread import Delivery, EngineThread
from zaya_cli.serve.failure_log import report_failure
from zaya_cli.serve.job import Job
from zaya_cli.serve.mailbox import Mailbox
from zaya_cli.serve.protocol.errors import ApiError, QueueFull, is_out_of_memory, unavailable
from zaya_cli.serve.settings import ServeSettings
from zaya_core.engine.engine import Engine
from zaya_core.engine.events import Failed, Finished
from zaya_core.errors import CheckpointError, GenerationError

State = Literal["loading", "ready", "draining", "failed"]
Result = TypeVar("Result")

_WORKERS = 2  # threads that tokenise and render
_SHARE_OF_QUEUE = 4  # of several keys, one may fill 1 / 4 of the queue
_LONGEST_RETRY = 60  # seconds
_SHUTDOWN = "server_shutdown"
_NOT_READY = {
    "loading": "The model is being loaded.",
    "draining": "The server is shutting down.",
    "failed": "The model's computation failed; the server must be restarted.",
}


@dataclass(frozen=True)
class _Open:
    """A job that has not ended: since when (monotonic), and what would end it for taking too long."""

    mailbox: Mailbox
    since: float
    timers: tuple[asyncio.TimerHandle, ...]


class Service:
    """Belongs to the event loop's thread, in which all of its methods are called.

    State: which jobs are open, and how long requests take. `state` says whether it takes more; `failed` is set when it
    never will again.
    """

    def __init__(self, runtime: Runtime, settings: ServeSettings):
        self.runtime, self.settings = runtime, settings
        self.state: State = "loading"
        self.finished_jobs = self.failed_choices = 0
        self._thread = EngineThread(runtime.engine, self._deliver)
        self._workers = ThreadPoolExecutor(_WORKERS, "worker")
        self._jobs: dict[str, _Open] = {}
        self._mean_seconds = 1.0  # of a job
        self._is_empty = asyncio.Event()
        self.failed = asyncio.Event()

    def start(self) -> None:
        """Take jobs from now on. To be called in the event loop's thread."""
        self._is_empty.set()
        self._thread.start(asyncio.get_running_loop())
        self.state = "ready"

    def close(self) -> None:
        """End all threads; jobs that are open end with an error."""
        self.state = "draining" if self.state != "failed" else "failed"
        self._end_all(self._mailboxes, _shutdown())
        self._thread.close()
        self._workers.shutdown(cancel_futures=True)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    async def work(self, task: Callable[[], Result]) -> Result:
        """Do what takes long in a worker thread, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, task)

    async def ask(self, question: Callable[[Engine], Result]) -> Result:
        """The answer to a question that is put to the Engine between two steps."""
        self.expect_ready()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()

        def give(result: Result | None, error: Exception | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        def command() -> None:
            try:
                result, error = question(self.runtime.engine), None
            except Exception as one:
                result, error = None, one
            loop.call_soon_threadsafe(give, result, error)

        self._thread.do(command)
        return await answer

    async def submit(self, job: Job) -> Mailbox:
        """Take a place in the queue. Raises QueueFull; ApiError while it is not ready."""
        mailbox = self.open(job)
        self._thread.submit(mailbox)
        return mailbox

    def open(self, job: Job) -> Mailbox:
        """Take a place for a job that others compute, by jobs that are parts of it, and put into its mailbox.

        A part needs no place, has its time, and is taken while the server shuts down. Raises as `submit`;
        GenerationError for a part of a job that has ended.
        """
        if job.part_of is None:
            self.expect_ready()
            self._expect_place(job)
        elif job.part_of not in self._jobs:
            raise GenerationError("cancelled")
        mailbox = Mailbox(job)
        timers = () if job.part_of is not None else tuple(self._timers(mailbox))
        self._jobs[job.id] = _Open(mailbox, time.monotonic(), timers)
        self._is_empty.clear()
        return mailbox

    @property
    def not_ready(self) -> str:
        """Why no job is taken, while none is."""
        return _NOT_READY[self.state]

    def expect_ready(self) -> None:
        """Raises ApiError while no job is taken."""
        if self.state != "ready":
            raise unavailable(self.not_ready, self.state)

    def cancel(self, job_id: str) -> None:
        """Nobody waits for a job any more. Of one that has ended, nothing happens."""
        mailbox = self.mailbox_of(job_id)
        if mailbox is not None:
            mailbox.end(GenerationError("cancelled"))
            self._forget(mailbox)
            self._thread.cancel(mailbox)
            self.cancel_parts(job_id)

    def cancel_parts(self, job_id: str) -> None:
        """Nobody waits any more for what is part of a job."""
        for part in self._parts(job_id):
            self.cancel(part.job.id)

    def stop(self, job_id: str) -> None:
        """Have an open job end with what it has."""
        mailbox = self.mailbox_of(job_id)
        if mailbox is not None:
            self._thread.cancel(mailbox)

    def forget(self, salt: bytes, beginning: Sequence[int] = ()) -> None:
        """Forget the prefixes of a salt that go on from a beginning, before the next job is taken; of none: all, when
        the rows that are cancelled now have ended, which may keep what they have computed."""

        def task() -> None:
            self.runtime.engine.prefixes.forget_beyond(beginning, salt)

        (self._thread.do if beginning else self._thread.do_after_step)(task)

    def end_thinking(self, job_id: str, owner: str) -> bool:
        """Have an open job of this owner answer now; whether there is such a job."""
        mailbox = self.mailbox_of(job_id)
        if mailbox is None or mailbox.job.owner != owner:
            return False
        mailboxes = [mailbox, *self._parts(job_id)]
        self._thread.do(
            lambda: self.runtime.engine.end_thinking(*(id_ for one in mailboxes for id_ in one.request_ids))
        )
        return True

    def mailbox_of(self, job_id: str) -> Mailbox | None:
        """Of an open job."""
        one = self._jobs.get(job_id)
        return None if one is None else one.mailbox

    async def drain(self, seconds: float) -> bool:
        """Take no more jobs; those that wait end with an error, those that run do after so many seconds -> whether all
        of these were complete before."""
        if self.state != "failed":
            self.state = "draining"
        self._end_all([one for one in self._wholes if one.unbegun_choices == one.open_choices], _shutdown())
        try:
            await asyncio.wait_for(self._is_empty.wait(), seconds)
        except asyncio.TimeoutError:
            self._end_all(self._mailboxes, _shutdown())
            return False
        return True

    # --- limits -------------------------------------------------------------------------------------------------------

    @property
    def _mailboxes(self) -> list[Mailbox]:
        return [one.mailbox for one in self._jobs.values()]

    @property
    def _wholes(self) -> list[Mailbox]:
        """Of jobs that are not part of another."""
        return [mailbox for mailbox in self._mailboxes if mailbox.job.part_of is None]

    def _parts(self, job_id: str) -> list[Mailbox]:
        return [mailbox for mailbox in self._mailboxes if mailbox.job.part_of == job_id]

    @property
    def open_requests(self) -> int:
        """Choices that have not ended."""
        return sum(mailbox.open_choices for mailbox in self._mailboxes)

    @property
    def running_jobs(self) -> int:
        """Jobs of which an answer has begun."""
        return sum(mailbox.unbegun_choices < len(mailbox.job.requests) for mailbox in self._wholes)

    @property
    def waiting_requests(self) -> int:
        """Choices that wait for a row."""
        return sum(mailbox.unbegun_choices for mailbox in self._mailboxes)

    def _expect_place(self, job: Job) -> None:
        choices, settings = len(job.requests), self.settings
        share = max(1, settings.queue // _SHARE_OF_QUEUE) if len(settings.api_keys) > 1 else settings.queue
        most = settings.rows + share
        if choices > most:
            raise ApiError(400, f"The request asks for {choices:,} answers; {most:,} is the most at once.")
        taken = [(one.open_choices, one.job.owner) for one in self._wholes]
        own = sum(count for count, owner in taken if owner == job.owner)
        if sum(count for count, _ in taken) + choices > settings.rows + settings.queue or own + choices > most:
            raise QueueFull(self.open_requests, self._retry_seconds())

    def _retry_seconds(self) -> int:
        seconds = self.waiting_requests * self._mean_seconds / self.settings.rows
        return int(min(max(seconds, 1), _LONGEST_RETRY))

    def _timers(self, mailbox: Mailbox) -> Iterator[asyncio.TimerHandle]:
        loop, settings = asyncio.get_running_loop(), self.settings
        yield loop.call_later(settings.queue_timeout, self._end_unbegun, mailbox)
        if settings.request_timeout is not None:
            yield loop.call_later(settings.request_timeout, self._end_late, mailbox)

    def _end_unbegun(self, mailbox: Mailbox) -> None:
        if mailbox.unbegun_choices and mailbox.unbegun_choices == mailbox.open_choices:
            seconds = self.settings.queue_timeout
            message = f"No row became free in {seconds:g} s. Try again later."
            self._end_all([mailbox], unavailable(message, "queue_timeout"))

    def _end_late(self, mailbox: Mailbox) -> None:
        message = f"The answer was not complete after {self.settings.request_timeout:g} s."
        headers = {"x-should-retry": "false"}  # or OpenAI's clients would have it computed three times
        self._end_all([mailbox], ApiError(408, message, "server_error", code="request_timeout", headers=headers))

    def _end_all(self, mailboxes: list[Mailbox], error: Exception) -> None:
        for mailbox in mailboxes:
            mailbox.end(error)
            self.cancel(mailbox.job.id)

    # --- events -------------------------------------------------------------------------------------------------------

    def _deliver(self, deliveries: list[Delivery]) -> None:
        for mailbox, index, event in deliveries:
            mailbox.put(index, event)
            if isinstance(event, (Finished, Failed)) and not mailbox.open_choices:
                self._forget(mailbox)
            if isinstance(event, Failed):
                self._note_failure(event.error)

    def _note_failure(self, error: Exception) -> None:
        """What memory has no room for may have it the next time; a damaged model has no next time."""
        self.failed_choices += 1
        report_failure(error)
        if isinstance(error, CheckpointError) and not is_out_of_memory(error):
            self.state = "failed"
            self.failed.set()

    def _forget(self, mailbox: Mailbox) -> None:
        one = self._jobs.pop(mailbox.job.id, None)
        if one is None:
            return
        for timer in one.timers:
            timer.cancel()
        if mailbox.job.part_of is None:
            self._mean_seconds += (time.monotonic() - one.since - self._mean_seconds) / 8
            self.finished_jobs += 1
        if not self._jobs:
            self._is_empty.set()


def _shutdown() -> ApiError:
    return unavailable(_NOT_READY["draining"], _SHUTDOWN)
