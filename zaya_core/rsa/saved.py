"""The state of a run in a file, so that a killed one goes on where its last stage ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from zaya_core.errors import UsageError
from zaya_core.exclusive import held
from zaya_core.private_file import make_private_folder, write_atomically
from zaya_core.rsa.rollouts import Rollout
from zaya_core.sealed_json import sealed, unsealed

_VERSION = 2  # 1 had no checksum


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No other run saves in the folder, which is made if it is missing. Raises UsageError where one does."""
    with ExitStack() as locks:
        try:
            make_private_folder(folder)
            doing = f"saving its rollouts in {folder}"
            locks.enter_context(held(folder / ".lock", doing, "wait for it, or give another folder"))
        except OSError as error:
            raise UsageError(f"{folder} cannot be written: {error.strerror}.") from None
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

    Raises UsageError when it cannot be written.
    """
    content = sealed(
        {"version": _VERSION, "identity": identity, "rollouts": [rollout.as_json() for rollout in rollouts]}
    )
    try:
        write_atomically(path, lambda temporary: _write(temporary, content))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _read(path: Path) -> dict[str, Any] | None:
    """What the file says of a run and its rollouts, None without a file."""
    try:
        stored = unsealed(path.read_bytes())
        if stored["version"] != _VERSION:
            raise ValueError("version")
        if not (isinstance(stored["identity"], dict) and isinstance(stored["rollouts"], list)):
            raise TypeError("fields")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
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
