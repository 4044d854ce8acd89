"""Keeps a running conversation in files: after every answer by itself, and when the person says so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from zaya_cli.chat import computed
from zaya_cli.chat.conversation import Conversation
from zaya_cli.chat.session_file import Session, SessionFolder, read_session, write_session
from zaya_core.errors import UsageError, ZayaError
from zaya_core.files.exclusive import Lock
from zaya_core.files.write_errors import write_error

_LARGEST_AUTOMATIC_STATE = 2 << 30  # bytes
_ELSEWHERE = "/save PATH.json"
_READ_AGAIN = "It is read again with the next question."
_EDITED = "It was changed by hand or damaged: its texts are used, and read again with the next question."


class SessionKeeper:
    """State: `name`, that of the last /save or /load; `automatic`, where the conversation is kept by itself.

    Both are locked as long as this conversation has them, so that no other process writes there.
    """

    def __init__(
        self, conversation: Conversation, folder: SessionFolder, model: str, weights: str, is_automatic: bool,
        complain: Callable[[str], None],
    ):  # fmt: skip
        """model: its name. weights: their fingerprint. is_automatic: whether anything is written without being asked
        for. complain: told once what went wrong."""
        self.conversation = conversation
        self.folder = folder
        self.name: str | None = None
        self.automatic: str | None = None
        self._is_automatic = is_automatic
        self._locks: dict[str, Lock] = {}
        self._model = model
        self._weights = weights
        self._complain = complain
        self._complaint = ""
        self._kept = self._session()
        self._exported: Session | None = None
        self._exported_to: Path | None = None
        self._expect_to_keep()

    def keep(self) -> None:
        """Save the conversation under its automatic name, if it has changed. Errors are told, not raised."""
        session = self._session()
        if not self._is_automatic or session == self._kept or not (session.exchanges or self._kept.exchanges):
            return
        try:
            name = self._take_automatic_name()
            if session.exchanges:
                self.folder.save(name, session)
            else:  # all was taken back
                self.folder.remove(name)
            self._kept = session
        except OSError as error:
            self._tell(
                f"The conversation cannot be kept ({error.strerror or error}): see to {self.folder.folder}, or type "
                f"{_ELSEWHERE}."
            )
        except ZayaError as error:
            self._tell(f"The conversation cannot be kept: {error}")

    def begin_anew(self) -> bool:
        """Keep what there is; the next conversation is empty, and kept under another name.

        Whether the old one is in a file.
        """
        self.keep()
        is_kept = any(self.folder.path(name).exists() for name in (self.name, self.automatic) if name is not None)
        self.let_go()
        self.conversation.clear()
        self._kept = self._session()
        self._expect_to_keep()
        return is_kept

    def _expect_to_keep(self) -> None:
        """Take a name, if anything is written without being asked for; what prevents it is told when there is need."""
        if self._is_automatic:
            with suppress(OSError, ZayaError):
                self._take_automatic_name()

    def let_go(self) -> None:
        """Leave the sessions to other processes."""
        for name in list(self._locks):
            self._let_go_of(name)
        self.name = self.automatic = None

    def _let_go_of(self, name: str) -> None:
        self.folder.let_go(name, self._locks.pop(name))

    def _take_automatic_name(self) -> str:
        """Where this conversation is kept, from now on if there was no place for it yet. Raises OSError, UsageError."""
        if self.automatic is None:
            self.automatic, lock = self.folder.begin()
            self._locks[self.automatic] = lock
        return self.automatic

    def close(self) -> None:
        """Keep the conversation and what was computed of it; remove what is too old."""
        self.keep()
        if self._is_lost():
            self._complaint = ""  # said before, and true to the end
            self._tell("This conversation was not kept.")
        if self.automatic is None or not self.conversation.exchanges:
            return
        try:
            if computed.bytes_in_use(self.conversation.engine) <= _LARGEST_AUTOMATIC_STATE:
                self._save_state(self.automatic)
            self.folder.prune(newest=self.automatic)
        except OSError as error:
            self._tell(f"What was computed of the conversation is not kept ({error.strerror or error}).")

    def _is_lost(self) -> bool:
        """Whether something was said that should have been kept and is in no file."""
        return self._is_automatic and self._session() not in (self._kept, self._exported)

    def export(self, path: Path) -> str:
        """Write the conversation into a file of the person's choice. Says what was done. Raises UsageError."""
        session = self._session()
        if path != self._exported_to and path.exists():
            raise UsageError(f"{path} exists already: give another name.")
        if not path.parent.is_dir():
            raise UsageError(f"There is no folder {path.parent}: make it first, or give another.")
        try:
            write_session(path, session)
        except OSError as error:
            raise write_error(path, error) from None
        self._exported, self._exported_to = session, path
        return f"Saved in {path}: {_count_of(session)}. `/load {path.absolute()}` goes on with it."

    def save(self, name: str | None) -> str:
        """Save under a name, by default the last one or the automatic one, with what was computed. Says what was done.

        Raises UsageError if another conversation has that name, or if the texts could not be written.
        """
        try:
            name = self._take_name(name)
            path = self.folder.save(name, self._session())
            self.name = name
        except OSError as error:
            raise UsageError(
                f"The conversation could not be saved ({error.strerror or error}): see to {self.folder.folder}, or "
                f"save it elsewhere: {_ELSEWHERE}."
            ) from None
        finally:
            self._let_go_of_others()
        done = f"Saved as {name}: {_count_of(self._session())}, {path.stat().st_size:,} bytes"
        try:
            size = self._save_state(name)
        except OSError as error:
            return f"{done}; not what was computed of it ({error.strerror or error}), which will be read again."
        return f"{done}; what was computed of it, {size:,} bytes."

    def _take_name(self, name: str | None) -> str:
        """The name to save under, locked. Raises OSError, UsageError."""
        name = name or self.name or self.automatic
        if name is None:
            name, lock = self.folder.begin()
            self._locks[name] = lock
        elif name not in self._locks:
            if not self._take(name):
                holder = self.folder.holder(name)
                raise UsageError(f"Another zaya is in the session {name} ({holder}): choose another name.")
            if self.folder.path(name).exists():
                raise UsageError(f"There is a session {name} already: choose another name, or /load it.")
        return name

    def _take(self, name: str) -> bool:
        """Lock a session, unless another process is in it. Raises OSError, UsageError."""
        if (lock := self.folder.take(name)) is not None:
            self._locks[name] = lock
        return lock is not None

    def _let_go_of_others(self) -> None:
        for name in self._locks.keys() - {self.name, self.automatic}:
            self._let_go_of(name)

    def load(self, name: str | None) -> str:
        """Go on with a saved conversation, by default the newest other one, or with a copy of one that another process
        is in. Says what was done.

        Raises what `SessionFolder.load` raises, with the running conversation as it was.
        """
        name = name or next((known for known in self.folder.names() if known != self.automatic), None)
        if name is None:
            raise UsageError("No session was saved yet: /save keeps this one.")
        note = self._prepare_to_load(name)
        try:
            loaded = self.folder.load(name)
        except BaseException:
            self._let_go_of_others()
            raise
        self._go_on_with(loaded.session, name)
        reused = _EDITED if loaded.is_edited else self._load_state(name)
        return f"{name}: {_count_of(loaded.session)}. {note}{reused}"

    def load_file(self, path: Path) -> str:
        """Go on with a copy of a conversation in a file of the person's choice. Says what was done.

        Raises what `read_session` raises, with the running conversation as it was.
        """
        loaded = read_session(path)
        self._go_on_with(loaded.session, None)
        return f"{path}: {_count_of(loaded.session)}. {_EDITED if loaded.is_edited else _READ_AGAIN}"

    def _go_on_with(self, session: Session, name: str | None) -> None:
        self.keep()
        self._restore(session)
        self._kept = self._session()
        self._continue_as(name)

    def _prepare_to_load(self, name: str) -> str:
        """Lock a session, so that nobody changes it any more -> what there is to say where that is impossible."""
        if name in self._locks or not self.folder.path(name).exists():
            return ""
        try:
            return "" if self._take(name) else f"Another zaya is in it ({self.folder.holder(name)}): this is a copy. "
        except OSError as error:
            return f"It cannot be written ({error.strerror or error}): this is a copy. "
        except ZayaError as error:
            return f"{error} This is a copy. "

    def _continue_as(self, name: str | None) -> None:
        """Keep the loaded conversation where it was, if that is ours, and leave what it was loaded into."""
        self.name = name if name in self._locks else None
        is_ours = self.name is not None and self._is_automatic and self.folder.is_automatic(self.name)
        self.automatic = self.name if is_ours else None
        self._let_go_of_others()
        self._expect_to_keep()

    def _session(self) -> Session:
        return Session.of(self.conversation, self._model, self._weights)

    def _restore(self, session: Session) -> None:
        conversation = self.conversation
        conversation.clear()
        conversation.system = session.system
        conversation.asked = session.asked
        if conversation.settings.seed is None:
            conversation.sampling = replace(conversation.sampling, seed=session.seed)
        conversation.exchanges = list(session.exchanges)
        if session.weights == self._weights and self._are_ids(session):
            conversation.known_ids = list(session.known_ids)
        else:  # ids are those of another vocabulary, perhaps
            conversation.exchanges = [exchange.without_tokens() for exchange in session.exchanges]

    def _are_ids(self, session: Session) -> bool:
        """Whether all are of this vocabulary; in a file that somebody wrote by hand they may not be."""
        ids = (session.known_ids, *(exchange.tokens for exchange in session.exchanges))
        return max(max(some, default=0) for some in ids) < self.conversation.engine.model.config.vocab_size

    def _save_state(self, name: str) -> int:
        conversation = self.conversation
        return computed.save(conversation.engine, conversation.known_ids, self.folder.state_path(name), self._weights)

    def _load_state(self, name: str) -> str:
        try:
            tokens = computed.load(self.conversation.engine, self.folder.state_path(name), self._weights)
        except FileNotFoundError:
            return _READ_AGAIN
        except ZayaError as error:
            return f"It is read again with the next question: {error}"
        except OSError as error:
            return f"It is read again with the next question ({error.strerror or error})."
        return f"{tokens:,} tokens of it are ready."

    def _tell(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            self._complain(complaint)


def _count_of(session: Session) -> str:
    count = len(session.exchanges)
    return f"{count} question{'s' * (count != 1)} and answers"
