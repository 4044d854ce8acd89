"""Conversations on disk: a JSON file each, and beside it what the model has computed of it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from zaya_cli.conversation import Conversation, Exchange
from zaya_cli.user_files import write_atomically
from zaya_core.errors import ModelNotFoundError, UsageError
from zaya_core.events import FinishReason

_VERSION = 1
_NAME = re.compile(r"\w[\w.-]{0,99}")
_AUTOMATIC = re.compile(r"chat-\d{8}-\d{6}(-\d+)?")
_KEPT_AUTOMATIC = 50


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


class SessionFolder:
    """The saved conversations of one person.

    Automatic ones are named after their beginning, `chat-20261122-080000`; the newest 50 stay, and the computed state
    of the newest only. Those that the person has named stay until the person removes them.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def new_name(self) -> str:
        """A name for an automatic session that is not taken."""
        base = datetime.now().strftime("chat-%Y%m%d-%H%M%S")
        taken = set(self.names())
        return next(name for name in (base, *(f"{base}-{n}" for n in range(2, 10_000))) if name not in taken)

    def names(self) -> list[str]:
        """The newest first."""
        files = [path for path in self.folder.glob("*.json") if not path.name.startswith(".")]
        return [path.stem for path in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)]

    def path(self, name: str) -> Path:
        """Raises UsageError for a name that is not one."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is not a name: use letters, digits, dots, dashes and underscores.")
        return self.folder / f"{name}.json"

    def state_path(self, name: str) -> Path:
        """Where the computed state of a session lies."""
        return self.path(name).with_suffix(".safetensors")

    def save(self, name: str, session: Session) -> Path:
        """Write a session in one step. Raises OSError, with what was there before untouched."""
        value = {"zaya_session": _VERSION, "saved": datetime.now().astimezone().isoformat(), **asdict(session)}
        content = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        path = self.path(name)
        write_atomically(path, lambda temporary: _write(temporary, content))
        return path

    def load(self, name: str) -> Session:
        """Raises: ModelNotFoundError with the names that there are; UsageError for a file that cannot be read."""
        path = self.path(name)
        try:
            value = json.loads(path.read_bytes())
            return _session(value)
        except FileNotFoundError:
            known = ", ".join(self.names()[:8])
            raise ModelNotFoundError(
                f"There is no session {name}: {f'there are {known}' if known else 'none was saved yet'}."
            ) from None
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise UsageError(f"{path} is damaged or of another version; it was left as it is.") from None

    def is_automatic(self, name: str) -> bool:
        return _AUTOMATIC.fullmatch(name) is not None

    def prune(self, newest: str) -> None:
        """Remove automatic sessions beyond the newest 50, and the computed state of all but `newest`."""
        automatic = [name for name in self.names() if self.is_automatic(name)]
        for name in automatic[_KEPT_AUTOMATIC:]:
            self.path(name).unlink(missing_ok=True)
        for path in self.folder.glob("*.safetensors"):
            if self.is_automatic(path.stem) and path.stem != newest:
                path.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _session(value: Any) -> Session:
    """Read every field with its type. Raises ValueError, TypeError or KeyError."""
    if value["zaya_session"] != _VERSION:
        raise ValueError("version")
    system = None if value["system"] is None else _text(value["system"])
    return Session(
        model=_text(value["model"]),
        weights=_text(value["weights"]),
        system=system,
        seed=_count(value["seed"]),
        asked=_count(value["asked"]),
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


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("count")
    return value
