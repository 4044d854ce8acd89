"""A run over the service: the rollouts of each stage are one job, whose events the schedule takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from zaya_cli.rsa.answered import finish_reason
from zaya_cli.serve.job import Job
from zaya_cli.serve.mailbox import Arrival, Mailbox, Notice
from zaya_cli.serve.protocol.served import Served
from zaya_cli.serve.rsa.ask import RsaChat
from zaya_cli.serve.rsa.progress import notice_of
from zaya_cli.serve.rsa.summary import RsaTeller, stats_of, summary_json
from zaya_cli.serve.service import Service
from zaya_core.engine.events import Event, Finished, PrefillProgress, TextEvent, ThinkingEnded, TokenEvent
from zaya_core.engine.request import Request
from zaya_core.errors import GenerationError, NetworkError
from zaya_core.rsa import RsaResult
from zaya_core.rsa.canary import LoopCanary
from zaya_core.rsa.reading import RolloutReader, engine_request
from zaya_core.rsa.rollouts import RolloutEvent, RolloutFinished, RolloutRequest

_ROWS_FOR_OTHERS = 2


class RsaRun:
    """Belongs to the event loop's thread; what takes long is done in the service's workers, one thing at a time.

    State: when the first rollouts were submitted (monotonic), and what made rollouts fail.
    """

    def __init__(self, service: Service, served: Served, asked: RsaChat, mailbox: Mailbox, teller: RsaTeller):
        """mailbox: of the answer, which gets the chosen candidate's texts."""
        self._service, self._served, self._asked = service, served, asked
        self._mailbox, self._teller = mailbox, teller
        self._submitted = self._began = time.monotonic()
        self._causes: list[Exception] = []

    async def drive(self, places: asyncio.Semaphore) -> None:
        """Run to the end, once there is a place. Errors go to the mailbox; a cancelled run leaves nothing behind."""
        job_id = self._asked.chat.job.id
        try:
            async with places:
                self._began = time.monotonic()
                await self._run_stages()
            await self._tell_result()
        except Exception as error:
            self._mailbox.end(error)
        finally:
            self._service.cancel_parts(job_id)
            self._service.forget(self._salt)

    @property
    def _salt(self) -> bytes:
        """Prefixes are shared within the run, and with nobody."""
        return self._asked.chat.job.id.encode()

    # --- stages -------------------------------------------------------------------------------------------------------

    async def _run_stages(self) -> None:
        solver = self._asked.solver
        while not solver.is_complete:
            rollouts = solver.ready()
            if not rollouts:
                return
            await self._run_stage(rollouts)

    async def _run_stage(self, rollouts: Sequence[RolloutRequest]) -> None:
        requests = await self._service.work(lambda: [self._request(rollout) for rollout in rollouts])
        tokenizer = self._served.tokenizer
        readers = [
            RolloutReader(rollout, tokenizer, tokenizer.starts_in_thinking(request.ids))
            for rollout, request in zip(rollouts, requests, strict=True)
        ]
        # As `EngineGenerator.submit` has it: what an earlier stage left would move the borders of prefill chunks.
        question = list(requests[0].ids[: rollouts[0].shared])
        if question:
            self._service.forget(self._salt, question)
        part = await self._service.submit(self._job(rollouts[0].stage, requests, readers))
        async for arrivals in part.arrivals():
            self._note_beginning(arrivals)
            events = await self._service.work(lambda: self._read(readers, arrivals))  # noqa: B023
            self._note(events)
            if self._asked.solver.is_complete:
                self._service.stop(part.job.id)

    def _request(self, rollout: RolloutRequest) -> Request:
        tokenizer, job_id = self._served.tokenizer, self._asked.chat.job.id
        ids = tokenizer.render_chat(rollout.messages)
        return replace(
            engine_request(rollout, ids, tokenizer, self._served.context),
            stop=self._asked.stop,
            salt=self._salt,
            group=job_id,
            group_rows=max(1, self._served.rows - _ROWS_FOR_OTHERS),
        )

    def _job(self, stage: int, requests: Sequence[Request], readers: Sequence[RolloutReader]) -> Job:
        whole = self._asked.chat.job
        watches = [_LoopWatch(reader.canary) for reader in readers]
        return Job(f"{whole.id}-{stage}", tuple(requests), watches, True, whole.owner, part_of=whole.id)

    def _read(self, readers: Sequence[RolloutReader], arrivals: Sequence[Arrival]) -> list[RolloutEvent]:
        """What has come, taken by the schedule; comparing answers may take seconds."""
        found: list[RolloutEvent] = []
        for index, event in arrivals:
            if not isinstance(event, Notice):
                found += readers[index].take(event)
        for told in found:
            if isinstance(told, RolloutFinished):
                self._asked.solver.take(told.rollout)
        return found

    def _note_beginning(self, arrivals: Sequence[Arrival]) -> None:
        """The answer has begun when one of its rollouts has a row."""
        if self._mailbox.unbegun_choices:
            for _, event in arrivals:
                if isinstance(event, PrefillProgress):
                    self._mailbox.put(0, event)
                    return

    def _note(self, events: Sequence[RolloutEvent]) -> None:
        for event in events:
            if isinstance(event, RolloutFinished) and event.cause is not None:
                self._causes.append(event.cause)
            if (notice := notice_of(event, self._asked)) is not None:
                self._mailbox.put(0, notice)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _tell_result(self) -> None:
        """Raises what made all rollouts fail."""
        try:
            result = await self._service.work(self._asked.solver.result)
        except NetworkError:  # there is no text; the words are those of somebody who asks a server
            raise (self._causes[-1] if self._causes else GenerationError("no text")) from None
        seed = self._asked.chat.telling.seed
        self._teller.summary = await self._service.work(lambda: summary_json(result, seed))
        for event in self._last_events(result):
            self._mailbox.put(0, event)

    def _last_events(self, result: RsaResult) -> list[Event]:
        chosen, now = result.choice.rollout, time.monotonic()
        was_cut = chosen.state == "cut" and not chosen.answer_was_cut
        events: list[Event] = [ThinkingEnded(-1, chosen.thinking_tokens, chosen.decode_seconds, was_cut)]
        if result.thinking:
            events.append(TextEvent(-1, "thinking", result.thinking))
        if result.text:
            events.append(TextEvent(-1, "answer", result.text))
        stats = stats_of(result, now - self._began, self._began - self._submitted)
        return [*events, Finished(-1, finish_reason(result), stats)]


class _LoopWatch:
    """Ends a rollout that runs in a loop at the token by which that is known, however slowly its events are read."""

    def __init__(self, canary: LoopCanary):
        self._canary = canary

    @property
    def has_stopped(self) -> bool:
        return self._canary.is_dead

    def take(self, event: Event) -> list[Event]:
        if isinstance(event, TokenEvent):
            self._canary.add(event.token_id)
        return [event]
