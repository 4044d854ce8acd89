"""From what a person calls a model to a folder on this machine."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import zaya_core
from zaya_cli.models import hub
from zaya_cli.models.names import expect_supported, is_of_the_family, meant_by, repo_of
from zaya_cli.user_files import from_home, quantized_models
from zaya_core.errors import CheckpointError, ModelNotFoundError, UsageError

DEFAULT_REPO = "Zyphra/ZAYA1-8B"
BUNDLED = Path(zaya_core.__file__).parent / "bundled"  # small models that ship with the program, by name
_REPO = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?")


def find_model_folder(name: str) -> Path:
    """A bundled model by its bare name (`./demo` is a folder); a folder; a quantized model by its name; a repository.

    OWNER/NAME is the cached snapshot of a repository's main branch, OWNER/NAME@REVISION another one. Nothing is
    downloaded. Raises ModelNotFoundError with what to type; UsageError as `expect_openable`.
    """
    if name in bundled_names():
        return BUNDLED / name
    name = repo_of(name)
    path = from_home(name)
    if os.path.isdir(path):
        return expect_openable(path)
    if os.path.exists(path):
        gguf = ", safetensors and not GGUF" if path.suffix.lower() == ".gguf" else ""
        raise ModelNotFoundError(f"{name} is a file; give the folder that holds the model's config.json{gguf}.")
    if _is_hidden(path):
        raise CheckpointError(f"{name} cannot be opened (Permission denied): check the permissions of its folders.")
    expect_supported(name)
    if Path(name).name == name and (quantized_models() / name).is_dir():
        return quantized_models() / name
    return _repository(name)


def _repository(name: str) -> Path:
    """The cached snapshot of OWNER/NAME or OWNER/NAME@REVISION. Raises ModelNotFoundError with what to type."""
    found = _REPO.fullmatch(name)
    if not found or not hub.is_repo_name(found["repo"]):
        meant = meant_by(name, _known_names())
        hint = f"did you mean {meant}? Or " if meant else ""
        raise ModelNotFoundError(
            f"There is no folder {name}: {hint}give a model folder, a repository such as {DEFAULT_REPO}, or a name "
            "that `zaya models` lists."
        )
    if (meant := meant_by(found["repo"], _known_names())) is not None:
        raise ModelNotFoundError(f"There is no model {name} on this machine: did you mean {meant}?")
    revision = found["revision"] or hub.DEFAULT_REVISION
    return hub.cached_folder(found["repo"], revision) or _missing(found["repo"], revision)


def expect_openable(folder: Path) -> Path:
    """The folder. Raises UsageError for a name that safetensors cannot open files by."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{folder} is no UTF-8 name, and model files cannot be opened by such a one: rename the folder."
        ) from None
    return folder


def bundled_names() -> list[str]:
    """The models that ship with the program."""
    return sorted(path.name for path in BUNDLED.iterdir() if os.path.isdir(path))


def _known_names() -> list[str]:
    made: list[str] = []
    with suppress(OSError):  # a hint is not worth an error
        made = os.listdir(quantized_models())
    return [*bundled_names(), DEFAULT_REPO, *made]


def _is_hidden(path: Path) -> bool:
    """Whether a folder on the way may not be entered, so that nobody can say what is there."""
    try:
        path.stat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        pass
    return False


def _missing(repo: str, revision: str) -> Path:
    command = f"zaya pull {repo}" + ("" if revision == hub.DEFAULT_REVISION else f" --revision {revision}")
    if hub.repo_folder(repo).is_dir():
        raise ModelNotFoundError(
            f"The download of {repo} ({revision}) is not finished: type `{command}`, which goes on where it stopped."
        )
    if not is_of_the_family(repo):
        raise ModelNotFoundError(
            f"{repo} is neither a folder nor in the Hugging Face cache, and by its name no ZAYA model; no others are "
            f"supported. If it was made from one, type `{command}`."
        )
    size = " (17.7 GB)" if repo == DEFAULT_REPO else ""
    raise ModelNotFoundError(
        f"{repo} is neither a folder nor in the Hugging Face cache: type `{command}`{size}, or give --model FOLDER."
    )
