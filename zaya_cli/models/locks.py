"""Who downloads a model, reads it for hours or removes it: none of them takes it away from another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.console import Console

from zaya_cli.models import hub
from zaya_cli.models.inventory import PresentModel
from zaya_cli.models.quantized_folder import ORIGINALS
from zaya_core.errors import NoLocksError, UsageError
from zaya_core.files.exclusive import Lock, held, holder_of, lock_beside, try_lock
from zaya_core.files.model_json import UNFINISHED_FOLDER

_DOWNLOAD = "zaya.lock"
_READERS = "zaya-reading-*.lock"  # one of each process


@contextmanager
def downloading(repo: str, console: Console) -> Iterator[None]:
    """For the length of a download into the cache; waits for another one of the same repository, and says so."""
    path = _download_lock(repo)
    with ExitStack() as locks:
        try:
            lock = _begun(path)
            if lock is None:
                console.print(f"Another zaya is downloading {repo} ({holder_of(path)}): this one waits for it.")
            while lock is None:
                lock = try_lock(path, patience=1.0)
            locks.callback(lock.release)
        except NoLocksError as error:  # without locks a file may be fetched twice; its checksum decides
            console.print(f"zaya: {error}")
        except OSError:  # the download will say so, if it has anything to write there
            pass
        yield


@contextmanager
def downloading_alone(repo: str) -> Iterator[None]:
    """As `downloading`, for one that shall not wait. Raises UsageError where another process is at it."""
    with ExitStack() as locks:
        with suppress(OSError):
            path = _download_lock(repo)
            path.parent.mkdir(parents=True, exist_ok=True)
            locks.enter_context(held(path, f"downloading {repo}", "wait for it"))
        yield


def _download_lock(repo: str) -> Path:
    return _locks_of(hub.repo_folder(repo)) / _DOWNLOAD


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """For the length of a long reading: a snapshot in the cache is not removed meanwhile. Any number may read."""
    repo_folder = folder.parent.parent
    if repo_folder.parent != hub.cache_root():
        yield
        return
    try:
        lock = _begun(_locks_of(repo_folder) / _READERS.replace("*", str(os.getpid())))
    except (OSError, NoLocksError):  # where no file can be made, nothing can be removed
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            lock.release_and_remove()


@contextmanager
def removing(model: PresentModel) -> Iterator[None]:
    """For the length of a removal. Raises UsageError where another process downloads, makes or reads the model."""
    with ExitStack() as locks:
        with suppress(NoLocksError):  # then nobody else has one either
            for path in _locks_on(model):
                lock = _begun(path)
                if lock is None:
                    raise UsageError(
                        f"Another zaya is downloading or quantizing {model.name} ({holder_of(path)}): wait for it, or "
                        "stop it first."
                    )
                locks.callback(lock.release_and_remove)
        yield


def _locks_on(model: PresentModel) -> Iterator[Path]:
    if model.place == "hub":
        download = _download_lock(model.name.partition("@")[0])
        yield download
        yield from sorted(download.parent.glob(_READERS))
    else:
        out = model.folder.with_name(model.folder.name.removesuffix(UNFINISHED_FOLDER).removesuffix(ORIGINALS))
        yield lock_beside(out)
        yield lock_beside(out.with_name(out.name + ORIGINALS))


def _begun(path: Path) -> Lock | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    return try_lock(path)


def _locks_of(repo_folder: Path) -> Path:
    """Beside huggingface_hub's own, outside of what is removed."""
    return repo_folder.parent / ".locks" / repo_folder.name
