"""What people type where a model is meant, beside its name: an address of the Hub, a misspelling, another program's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from zaya_core.errors import ModelNotFoundError

_ADDRESS = re.compile(
    r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:/(?:tree|blob|resolve)/(?P<revision>[^/?#]+)[^?#]*)?/?(?:[?#].*)?"
)
_OTHER_FORMATS = (".gguf", ".ggml", ".bin", ".pt", ".pth", ".onnx", ".mlx")
_FAMILY = "zaya"


def repo_of(name: str) -> str:
    """OWNER/NAME, or OWNER/NAME@REVISION, of a page of the Hub; any other name as it is."""
    found = _ADDRESS.fullmatch(name)
    if found is None:
        return name
    return found["repo"] + (f"@{found['revision']}" if found["revision"] else "")


def expect_supported(name: str) -> None:
    """Raises ModelNotFoundError for a file of another program's format."""
    if name.lower().endswith(_OTHER_FORMATS):
        raise ModelNotFoundError(
            f"{name}: only folders and repositories with *.safetensors are read, no {name[name.rindex('.') :]} files."
        )


def meant_by(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs by case, by a missing owner or by a letter or two; None if none is near.

    Of a repository that can be one of the ZAYA models by its name only the case can be wrong.
    """
    spellings: dict[str, str] = {}
    for one in known:
        spellings.setdefault(one.lower(), one)
        spellings.setdefault(one.rpartition("/")[2].lower(), one)
    cutoff = 1.0 if "/" in name and is_of_the_family(name) else 0.75
    close = difflib.get_close_matches(name.lower(), spellings, 1, cutoff=cutoff)
    return spellings[close[0]] if close and spellings[close[0]] != name else None


def is_of_the_family(repo: str) -> bool:
    """Whether it can be one of Zyphra's ZAYA models, by its name."""
    return _FAMILY in repo.lower()
