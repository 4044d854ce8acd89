"""Keeps a running conversation in files: after every answer by itself, and when the person says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from zaya_cli.conversation import Conversation
from zaya_cli.session_file import Session, SessionFolder
from zaya_cli.user_files import write_atomically
from zaya_core.errors import UsageError, ZayaError
from zaya_core.fingerprint import fingerprint

_LARGEST_AUTOMATIC_STATE = 2 << 30  # bytes


class SessionKeeper:
    """State: `name`, that of the last /save or /load; `automatic`, where the conversation is kept by itself."""

    def __init__(
        self, conversation: Conversation, folder: SessionFolder, model: str, model_folder: Path, is_automatic: bool,
        complain: Callable[[str], None],
    ):  # fmt: skip
        """is_automatic: whether anything is written without being asked for. complain: told once what went wrong."""
        self.conversation = conversation
        self.folder = folder
        self.name: str | None = None
        self.automatic = folder.new_name() if is_automatic else None
        self._model = model
        self._weights = fingerprint(model_folder)
        self._complain = complain
        self._complaint = ""
        self._kept = self._session()

    def keep(self) -> None:
        """Save the conversation under its automatic name, if it has changed. Errors are told, not raised."""
        session = self._session()
        if self.automatic is None or session == self._kept or not (session.exchanges or self._kept.exchanges):
            return
        try:
            self.folder.save(self.automatic, session)
            self._kept = session
        except OSError as error:
            self._tell(f"The conversation cannot be kept ({error.strerror or error}): /save it elsewhere.")

    def begin_anew(self) -> None:
        """Keep what there is, and the next conversation under another name."""
        self.keep()
        self.name = None
        if self.automatic is not None:
            self.automatic = self.folder.new_name()
        self._kept = self._session()

    def close(self) -> None:
        """Keep the conversation and what was computed of it; remove what is too old."""
        self.keep()
        if self.automatic is None or not self.conversation.exchanges:
            return
        try:
            if self._state_bytes() <= _LARGEST_AUTOMATIC_STATE:
                self._save_state(self.automatic)
            self.folder.prune(newest=self.automatic)
        except OSError as error:
            self._tell(f"What was computed of the conversation is not kept ({error.strerror or error}).")

    def save(self, name: str | None) -> str:
        """Save under a name, by default the last one or the automatic one, with what was computed. Says what was done.

        Raises: UsageError if another conversation has that name; OSError if the texts could not be written.
        """
        name = name or self.name or self.automatic or self.folder.new_name()
        if name not in (self.name, self.automatic) and self.folder.path(name).exists():
            raise UsageError(f"There is a session {name} already: choose another name, or /load it.")
        path = self.folder.save(name, self._session())
        self.name = name
        count = len(self.conversation.exchanges)
        done = f"Saved as {name}: {count} question{'s' * (count != 1)} and answers, {path.stat().st_size:,} bytes"
        try:
            size = self._save_state(name)
        except OSError as error:
            return f"{done}; not what was computed of it ({error.strerror or error}), which will be read again."
        return f"{done}; what was computed of it, {size:,} bytes."

    def load(self, name: str | None) -> str:
        """Go on with a saved conversation, by default the newest other one. Says what was done.

        Raises what `SessionFolder.load` raises, with the running conversation as it was.
        """
        name = name or next((known for known in self.folder.names() if known != self.automatic), None)
        if name is None:
            raise UsageError("No session was saved yet: /save keeps this one.")
        session = self.folder.load(name)
        self.begin_anew()
        self._restore(session)
        self.name = name
        if self.automatic is not None and self.folder.is_automatic(name):
            self.automatic = name
        self._kept = self._session()
        count = len(session.exchanges)
        reused = self._load_state(name)
        return f"{name}: {count} question{'s' * (count != 1)} and answers. {reused}"

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
        if session.weights == self._weights:
            conversation.known_ids = list(session.known_ids)
        else:  # ids are those of another vocabulary, perhaps
            conversation.exchanges = [exchange.without_tokens() for exchange in session.exchanges]

    def _state_bytes(self) -> int:
        pool = self.conversation.engine.model.pool
        return pool.bytes_per_block * pool.blocks_in_use

    def _save_state(self, name: str) -> int:
        from zaya_core.prefix_file import save_prefixes

        path = self.folder.state_path(name)
        prefixes = self.conversation.engine.prefixes.beginnings_of(self.conversation.known_ids)
        if not prefixes:
            path.unlink(missing_ok=True)
            return 0
        write_atomically(path, lambda temporary: save_prefixes(temporary, prefixes, self._weights))
        return path.stat().st_size

    def _load_state(self, name: str) -> str:
        from zaya_core.prefix_file import load_prefixes

        engine = self.conversation.engine
        try:
            prefixes = load_prefixes(self.folder.state_path(name), engine.model.pool, self._weights)
        except FileNotFoundError:
            return "It is read again with the next question."
        except (ZayaError, OSError) as error:
            return f"It is read again with the next question: {error}"
        for prefix in prefixes:
            engine.prefixes.add(prefix)
        return f"{len(prefixes[-1].ids):,} tokens of it are ready."

    def _tell(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            self._complain(complaint)
