"""Address, model and dialect of a server, found out by its list of models and by requests of one token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from zaya_core.errors import NetworkError, UsageError
from zaya_core.redaction import public_url
from zaya_core.rsa.endpoint.address import base_urls
from zaya_core.rsa.endpoint.client import Client
from zaya_core.rsa.endpoint.dialect import CHATS, COMPLETIONS, Dialect, without_usage
from zaya_core.rsa.endpoint.faults import (
    NOT_THERE,
    NOT_UNDERSTOOD,
    BrokenStream,
    Malformed,
    Redirected,
    ServerFault,
    StatusError,
    Unreachable,
)
from zaya_core.rsa.endpoint.models import choose_model, context_of, entries_of, listed
from zaya_core.rsa.endpoint.repetition import Repetition
from zaya_core.rsa.endpoint.reply import Reply
from zaya_core.rsa.endpoint.reply_builder import Part
from zaya_core.rsa.rollouts import Messages
from zaya_core.sampling.params import SamplingParams
from zaya_core.text.tokenizer import Tokenizer

_PROBE: Messages = ({"role": "user", "content": "1 + 1"},)
_LISTING_RETRIES = 2  # who types a wrong address should not wait long
_CRASHED = 500  # so do some servers answer what they do not understand
_SHUT = (403, 410)  # so do some gateways answer for completions, and allow chats

Result = TypeVar("Result")
Wait = Callable[[threading.Event, float], object]


@dataclass(frozen=True)
class Server:
    """Who is asked, and how. context: tokens, None where the server does not say. notes: sentences for people."""

    client: Client
    model: str
    dialect: Dialect
    context: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Finder:
    """Finds a server out. model: its name there, None to choose; silence: seconds that it may be silent."""

    tokenizer: Tokenizer
    model: str | None
    retries: int
    silence: float
    wait: Wait

    def find(self, given: str) -> Server:
        """The server at what a person gave.

        Raises: UsageError for what is no URL, and where a model is to be named, or named otherwise; NetworkError.
        """
        missing: list[ServerFault] = []
        for base in base_urls(given):
            try:
                server = self._at(base)
            except (StatusError, Malformed, Redirected) as error:
                if not _is_elsewhere(error):
                    raise
                missing.append(error)
                continue
            where = server.client.where
            note = () if where == public_url(given).strip() else (f"--endpoint {public_url(given)}: {where} is asked.",)
            return replace(server, notes=(*note, *server.notes))
        also = "".join(f" {error}" for error in missing[1:])
        raise NetworkError(f"{missing[0]}{also} Give --endpoint the URL of an OpenAI-compatible server, with its /v1.")

    def _at(self, base: str) -> Server:
        """Raises a fault that `_is_elsewhere` knows when there is no server at this address."""
        client, entries = self._listed(Client(base, self.silence))
        model = self.model or choose_model(list(entries or ()), client.where)
        try:
            dialect = self._dialect(client, model)
        except StatusError as error:
            if not entries or error.status not in NOT_THERE:
                raise
            kind = NetworkError if model in entries else UsageError  # a name that was typed
            raise kind(f"{error} It lists {listed(list(entries))}.") from None
        context = context_of((entries or {}).get(model, {}))
        return Server(client, model, dialect, context, tuple(_losses(client.where, dialect)))

    # --- the list of models -------------------------------------------------------------------------------------------

    def _listed(self, client: Client) -> tuple[Client, dict[str, Mapping[str, Any]] | None]:
        """A client of the address that lists the models, and the models; None where a named one does without."""
        try:
            base, listing = self._patiently(client.models, min(self.retries, _LISTING_RETRIES))
            entries = entries_of(listing)
        except (BrokenStream, Unreachable) as error:
            raise NetworkError(f"No OpenAI-compatible server answers: {error}") from None
        except ValueError:
            if self.model is None:
                raise Malformed(f"{client.where}/models is no list of models.") from None
            return client, None
        except (StatusError, Malformed, Redirected) as error:
            if self.model is not None:
                return client, None
            if _is_elsewhere(error) or _has_status(error, (401, 403)):
                raise
            raise NetworkError(f"{error} To do without its list of models, name one with --endpoint-model.") from None
        return (client if base == client.base else Client(base, self.silence)), entries

    # --- the dialect --------------------------------------------------------------------------------------------------

    def _dialect(self, client: Client, model: str) -> Dialect:
        """Ask for one token in each dialect until one is understood. Raises NetworkError: what says most of why not."""
        refusal = self._first(client, model, COMPLETIONS)
        if isinstance(refusal, Dialect):
            return refusal
        found = self._first(client, model, CHATS)
        if isinstance(found, Dialect):
            return found
        assert found is not None
        raise found if refusal is None or _is_elsewhere(refusal) or not _is_elsewhere(found) else refusal

    def _first(self, client: Client, model: str, dialects: Iterable[Dialect]) -> Dialect | ServerFault | None:
        """The first dialect understood, else the last refusal; None where prompts would not arrive as they are."""
        refusal = None
        for dialect in dialects:
            try:
                found = self._tried(client, model, dialect)
            except (StatusError, Malformed, Redirected) as error:
                refusal = error
                if _is_elsewhere(error) or (dialect.kind != "chat" and _has_status(error, _SHUT)):
                    break
                if not _has_status(error, (*NOT_UNDERSTOOD, _CRASHED)):
                    raise
                continue
            if found is not None:
                return found
        return refusal

    def _tried(self, client: Client, model: str, dialect: Dialect) -> Dialect | None:
        """The dialect as the server has it; None if it counts other tokens in a prompt's text than we do.

        It may put a BOS of its own in front.
        """
        try:
            reply = self._patiently(lambda: self._probe(client, model, dialect), self.retries)
        except StatusError as error:
            other = without_usage(dialect, error)
            if other is None:
                raise
            return self._tried(client, model, other)
        if not reply.is_whole:  # an accident, or this server's way
            reply = self._patiently(lambda: self._probe(client, model, dialect), self.retries)
        dialect = replace(dialect, marks_end=reply.is_whole)
        surplus = (reply.prompt_tokens or 0) - len(self.tokenizer.render_chat(_PROBE))
        if dialect.kind != "text" or surplus == 0:
            return dialect
        return replace(dialect, drops_bos=True) if surplus == 1 else None

    def _probe(self, client: Client, model: str, dialect: Dialect) -> Reply:
        if dialect.kind == "chat":
            prompt: dict[str, Any] = {"messages": [dict(message) for message in _PROBE]}
        else:
            prompt = {"prompt": dialect.prompt(self.tokenizer, _PROBE)}
        fields = dialect.fields(model, SamplingParams(), 1, 0)
        return client.ask(dialect.path, {**fields, **prompt}, _Deaf())

    def _patiently(self, request: Callable[[], Result], retries: int) -> Result:
        never = threading.Event()
        patience = Repetition(retries, lambda seconds: self.wait(never, seconds))
        crashes = 0
        while True:
            try:
                return request()
            except ServerFault as fault:
                crashes += _has_status(fault, [_CRASHED])
                if crashes > 1:
                    raise
                patience.after(fault, 0.0, has_progressed=False)


class _Deaf:
    """Nobody waits for the text of a probe."""

    def byte(self) -> None:
        pass

    def text(self, part: Part, text: str) -> None:
        pass


def _losses(where: str, dialect: Dialect) -> list[str]:
    """What cannot be done in a dialect, in sentences."""
    if dialect.kind == "chat":
        return [
            f"{where} has no /v1/completions that takes a prompt as it is, so chat completions are used: a thought "
            "cannot be closed at its budget, min-p is not applied, and ties are not broken by probability."
        ]
    return [] if dialect.extended else [f"{where}: it refuses min-p and log-probabilities: neither is used."]


def _is_elsewhere(error: ServerFault) -> bool:
    """Whether another address may be the right one: no such page, a page for people, or the way to one."""
    return isinstance(error, (Malformed, Redirected)) or _has_status(error, NOT_THERE)


def _has_status(error: ServerFault, among: Iterable[int]) -> bool:
    return isinstance(error, StatusError) and error.status in among
