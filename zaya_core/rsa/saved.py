"""The state of a run in a file, so that a killed one goes on where its last stage ended."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zaya_core.errors import UsageError
from zaya_core.rsa.rollouts import Rollout

_VERSION = 1


def restore_rollouts(path: Path, identity: Mapping[str, Any]) -> list[Rollout]:
    """The rollouts that `save_rollouts` wrote; none without a file.

    identity: what decides the result: question, settings, seed, model. Raises UsageError for another run's file, naming
    what differs, and for a damaged one.
    """
    if not path.exists():
        return []
    stored = _read(path)
    if not isinstance(stored, dict) or stored.get("version") != _VERSION:
        raise UsageError(f"{path} was not written by this version of zaya --rsa-save: give another folder.")
    differing = [key for key, value in _plain(identity).items() if stored.get("identity", {}).get(key) != value]
    if differing:
        raise UsageError(
            f"{path} is from another run, it differs in {', '.join(differing)}: give another folder, or the same "
            "question and flags to go on with it."
        )
    try:
        return [Rollout.from_json(value) for value in stored["rollouts"]]
    except (KeyError, TypeError):
        raise UsageError(f"{path} is damaged: delete it to start over.") from None


def saved_seed(path: Path) -> int | None:
    """The seed of the run in the file, for one that goes on without naming it; None without a usable file."""
    if not path.exists():
        return None
    stored = _read(path)
    identity = stored.get("identity") if isinstance(stored, dict) else None
    seed = identity.get("seed") if isinstance(identity, dict) else None
    return seed if isinstance(seed, int) else None


def save_rollouts(path: Path, identity: Mapping[str, Any], rollouts: Sequence[Rollout]) -> None:
    """Write all finished rollouts; the file is whole at every moment. Raises UsageError when it cannot be written."""
    value = {"version": _VERSION, "identity": identity, "rollouts": [rollout.as_json() for rollout in rollouts]}
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            json.dump(value, file)  # a prompt that is no UTF-8 has halves of surrogate pairs, which only escapes hold
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise UsageError(f"{path} is damaged: delete it to start over.") from None


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: lists for tuples, text for keys."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain
