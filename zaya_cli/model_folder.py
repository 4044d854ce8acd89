"""From what a person calls a model to a folder on this machine."""

from __future__ import annotations

import re
from pathlib import Path

import zaya_core
from zaya_core.errors import ModelNotFoundError

DEFAULT_REPO = "Zyphra/ZAYA1-8B"
BUNDLED = Path(zaya_core.__file__).parent / "bundled"  # small models that ship with the program, by name
_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def find_model_folder(name: str | None) -> Path:
    """A bundled model by its bare name (`./demo` is a folder); a folder; a repository's newest cached snapshot.

    None means the default repository. Nothing is downloaded. Raises ModelNotFoundError with what to type.
    """
    if name is None:
        return _cached(DEFAULT_REPO) or _missing(
            f"There is no model on this machine yet ({DEFAULT_REPO})", DEFAULT_REPO
        )
    if name.isidentifier() and (BUNDLED / name).is_dir():
        return BUNDLED / name
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelNotFoundError(f"{name} is a file; give the folder that holds the model's config.json.")
    if not _REPO.fullmatch(name):
        raise ModelNotFoundError(
            f"There is no folder {name}: give a model folder or a repository such as {DEFAULT_REPO}."
        )
    return _cached(name) or _missing(f"{name} is neither a folder nor in the Hugging Face cache", name)


def _missing(what: str, repo: str) -> Path:
    raise ModelNotFoundError(f"{what}: type `hf download {repo}` (17.7 GB), or give --model FOLDER.")


def _cached(repo: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
