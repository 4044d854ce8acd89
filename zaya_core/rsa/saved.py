"""The state of a run in a file, so that a killed one goes on where its last stage ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from zaya_core.errors import MissingFileError, UsageError
from zaya_core.files.bounded_file import read_file
from zaya_core.files.exclusive import held
from zaya_core.files.private_file import make_private_folder, write_bytes_atomically
from zaya_core.files.sealed_json import sealed, unsealed
from zaya_core.files.write_errors import write_error
from zaya_core.rsa.rollouts import Rollout

_VERSION = 2  # 1 had no checksum
_MOST_BYTES = 1 << 30


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No other run saves in the folder, which is made if it is missing. Raises UsageError where one does."""
    with ExitStack() as locks:
        try:
            make_private_folder(folder)
            doing = f"saving its rollouts in {folder}"
            locks.enter_context(held(folder / ".lock", doing, "wait for it, or give another folder"))
        except OSError as error:
            raise write_error(folder, error) from None
        yield


def restore_rollouts(path: Path, identity: Mapping[str, Any]) -> list[Rollout]:
    """The rollouts that `save_rollouts` wrote; none without a file.

    identity: what decides the result: question, settings, seed, model. Raises UsageError for another run's file, naming
    what differs, and for a damaged one, which is left as it is.
    """
    stored = _read(path)
    if stored is None:
        return []
    differing = [key for key, value in _plain(identity).items() if stored["identity"].get(key) != value]
    if differing:
        raise UsageError(
            f"{path} is from another run, it differs in {', '.join(differing)}: give another folder, or the same "
            "question and flags to go on with it."
        )
    try:
        return [Rollout.from_json(value) for value in stored["rollouts"]]
    except (KeyError, TypeError, ValueError):
        raise _damaged(path) from None


def saved_seed(path: Path) -> int | None:
    """The seed of the run in the file, for one that goes on without naming it; None without a file.

    Raises UsageError for a damaged one.
    """
    stored = _read(path)
    seed = None if stored is None else stored["identity"].get("seed")
    return seed if isinstance(seed, int) else None


def save_rollouts(path: Path, identity: Mapping[str, Any], rollouts: Sequence[Rollout]) -> None:
    """Write all finished rollouts, readable by their owner only; the file is whole at every moment.

    Raises as `write_error` when it cannot be written.
    """
    content = sealed(
        {"version": _VERSION, "identity": identity, "rollouts": [rollout.as_json() for rollout in rollouts]}
    )
    try:
        write_bytes_atomically(path, content)
    except OSError as error:
        raise write_error(path, error) from None


def _read(path: Path) -> dict[str, Any] | None:
    """What the file says of a run and its rollouts, None without a file."""
    try:
        stored = unsealed(read_file(path, _MOST_BYTES))
        if stored["version"] != _VERSION:
            raise ValueError("version")
        if not (isinstance(stored["identity"], dict) and isinstance(stored["rollouts"], list)):
            raise TypeError("fields")
    except MissingFileError:
        return None
    except (ValueError, KeyError, TypeError):
        raise _damaged(path) from None
    return stored


def _damaged(path: Path) -> UsageError:
    return UsageError(
        f"{path} is damaged, or of another version of zaya; it was left as it is: delete it to start over, or give "
        "another folder."
    )


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: lists for tuples, text for keys."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain
