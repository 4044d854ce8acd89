"""Conversations on disk: a JSON file each, and beside it what the model has computed of it."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, get_args

from zaya_cli.chat.conversation import Conversation, Exchange
from zaya_core.engine.events import FinishReason
from zaya_core.errors import MissingFileError, UsageError
from zaya_core.files.bounded_file import read_file
from zaya_core.files.exclusive import Lock, holder_of, try_lock
from zaya_core.files.private_file import close_to_others, make_private_folder, write_bytes_atomically
from zaya_core.files.sealed_json import sealed, unsealed_or_edited

_VERSION = 1
_NAME = re.compile(r"\w[\w.-]{0,99}")
_LARGEST_NAME = 200  # bytes, of the 255 that file systems allow
_AUTOMATIC = re.compile(r"chat-\d{8}-\d{6}(-\d+)?")
_KEPT_AUTOMATIC = 50
_MOST_BYTES = 256 << 20
_MOST_ASKED = 1 << 32  # questions
_LARGEST_COUNT = 1 << 64  # of seeds and the like: what random numbers are keyed by


@dataclass(frozen=True)
class Session:
    """All of a conversation that outlives the program. Ids are of use only to the model of fingerprint `weights`."""

    model: str
    weights: str
    system: str | None
    seed: int
    asked: int
    exchanges: list[Exchange] = field(default_factory=list)
    known_ids: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, conversation: Conversation, model: str, weights: str) -> Session:
        return cls(
            model, weights, conversation.system, conversation.sampling.seed, conversation.asked,
            list(conversation.exchanges), list(conversation.known_ids),
        )  # fmt: skip

    def without_ids(self) -> Session:
        """The texts alone, which the model reads again."""
        return replace(self, exchanges=[one.without_tokens() for one in self.exchanges], known_ids=[])


@dataclass(frozen=True)
class Loaded:
    """A session from a file. is_edited: somebody, or a bad disk, has changed it: its ids are left out."""

    session: Session
    is_edited: bool = False


_FIELDS = {"zaya_session", "saved", *(one.name for one in fields(Session))}


def write_session(path: Path, session: Session) -> None:
    """Write a session in one step. Raises OSError, with what was there before untouched."""
    value = {"zaya_session": _VERSION, "saved": datetime.now().astimezone().isoformat(), **asdict(session)}
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")  # half a character cannot be shown
    content = sealed(json.loads(text))
    write_bytes_atomically(path, content)


def read_session(path: Path) -> Loaded:
    """Raises: MissingFileError; UsageError for a file that cannot be read, which is left as it is."""
    content = read_file(path, _MOST_BYTES)
    try:
        value, is_edited = unsealed_or_edited(content)
        session = _session(value)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(f"{path} is damaged or of another version; it was left as it is.") from None
    return Loaded(session.without_ids() if is_edited else session, is_edited)


class SessionFolder:
    """The saved conversations of one person.

    Automatic ones are named after their beginning, `chat-20261122-080000`; the newest 50 stay, and the computed state
    of the newest only. Those that the person has named stay until the person removes them. A session belongs to the
    process that holds its lock, `.NAME.lock` beside it, from when the chat begins.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self) -> tuple[str, Lock]:
        """The name of a new automatic session, which no other process gets, and its lock. Raises as `take`."""
        base = datetime.now().strftime("chat-%Y%m%d-%H%M%S")
        for name in (f"{base}-{number}" if number > 1 else base for number in count(1)):
            lock = None if self.path(name).exists() else self.take(name)
            if lock is None:
                continue
            if not self.path(name).exists():
                return name, lock
            lock.release()  # written and left between the two looks
        raise AssertionError("there are always more numbers")

    def take(self, name: str) -> Lock | None:
        """The lock of a session; None where another process is in it.

        Raises OSError; NoLocksError on a file system without locks.
        """
        lock = self._lock(name)
        make_private_folder(self.folder)
        close_to_others(self.folder)
        return try_lock(lock)

    def holder(self, name: str) -> str:
        """Which process is in a session, in words."""
        return holder_of(self._lock(name))

    def _lock(self, name: str) -> Path:
        return self.path(name).with_name(f".{name}.lock")

    def names(self) -> list[str]:
        """The newest first; other people's files in the folder are none."""
        files = [path for path in self.folder.glob("*.json") if _NAME.fullmatch(path.stem)]
        return [path.stem for path in sorted(files, key=_modified, reverse=True)]

    def path(self, name: str) -> Path:
        """Raises UsageError for a name that is not one."""
        if not _NAME.fullmatch(name) or len(os.fsencode(name)) > _LARGEST_NAME:
            raise UsageError(f"{name!r} is not a name: use letters, digits, dots, dashes and underscores.")
        return self.folder / f"{name}.json"

    def state_path(self, name: str) -> Path:
        """Where the computed state of a session lies."""
        return self.path(name).with_suffix(".safetensors")

    def save(self, name: str, session: Session) -> Path:
        """Write a session in one step. Raises OSError, with what was there before untouched."""
        path = self.path(name)
        write_session(path, session)
        return path

    def load(self, name: str) -> Loaded:
        """Raises: MissingFileError with the names that there are; UsageError for a file that cannot be read."""
        try:
            return read_session(self.path(name))
        except MissingFileError:
            known = ", ".join(self.names()[:8])
            raise MissingFileError(
                f"There is no session {name}: {f'there are {known}' if known else 'none was saved yet'}."
            ) from None

    def remove(self, name: str) -> None:
        """A session with what was computed of it. Raises OSError."""
        self.path(name).unlink(missing_ok=True)
        self.state_path(name).unlink(missing_ok=True)

    def is_automatic(self, name: str) -> bool:
        return _AUTOMATIC.fullmatch(name) is not None

    def prune(self, newest: str) -> None:
        """Remove automatic sessions beyond the newest 50, and the computed state of all but `newest`.

        What another process is in stays as it is; the locks of chats that ended without a word go. Raises OSError.
        """
        automatic = [name for name in self.names() if self.is_automatic(name)]
        computed = {path.stem for path in self.folder.glob("*.safetensors")}
        locked = {path.name[1:].removesuffix(".lock") for path in self.folder.glob(".*.lock")}
        doomed = {*automatic[_KEPT_AUTOMATIC:], *(locked - set(automatic))}
        for name in filter(self.is_automatic, (doomed | computed) - {newest}):
            self._prune(name, is_whole=name in doomed)

    def _prune(self, name: str, is_whole: bool) -> None:
        lock = self.take(name)
        if lock is None:
            return
        try:
            self.state_path(name).unlink(missing_ok=True)
            if is_whole:
                self.path(name).unlink(missing_ok=True)
        finally:
            self.let_go(name, lock)

    def let_go(self, name: str, lock: Lock) -> None:
        """Leave a session to others; of one that was never written nothing stays."""
        if self.path(name).exists():
            lock.release()
        else:
            lock.release_and_remove()


def _modified(path: Path) -> int:
    """Nanoseconds; 0 for a file that another process has removed meanwhile."""
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


def _session(value: Any) -> Session:
    """Read every field with its type. Raises ValueError, TypeError or KeyError."""
    if value["zaya_session"] != _VERSION or not value.keys() <= _FIELDS:
        raise ValueError("version")
    system = None if value["system"] is None else _text(value["system"])
    return Session(
        model=_text(value["model"]),
        weights=_text(value["weights"]),
        system=system,
        seed=_count(value["seed"]),
        asked=_count(value["asked"], _MOST_ASKED),
        exchanges=[_exchange(item) for item in value["exchanges"]],
        known_ids=[_count(id_) for id_ in value["known_ids"]],
    )


def _exchange(value: Any) -> Exchange:
    if value["reason"] not in get_args(FinishReason):
        raise ValueError("reason")
    return Exchange(
        question=_text(value["question"]),
        thinking=_text(value["thinking"]),
        answer=_text(value["answer"]),
        reason=value["reason"],
        tokens=tuple(_count(id_) for id_ in value["tokens"]),
        candidate=_count(value["candidate"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text")
    return value


def _count(value: Any, most: int = _LARGEST_COUNT) -> int:
    if type(value) is not int or not 0 <= value < most:
        raise TypeError("count")
    return value
