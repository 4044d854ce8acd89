"""The Hugging Face Hub and its cache on this machine: what a repository holds, and what of it is here.

Only what `huggingface_hub` documents is relied on: its functions, its errors, its environment variables (HF_HOME,
HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE) and the layout of its cache (a file's content lies in `blobs/CHECKSUM`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from zaya_cli.models.credentials import prepare_hub_token
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.errors import CheckpointError, DiskSpaceError, ModelNotFoundError, NetworkError, UsageError, ZayaError
from zaya_core.files.model_json import INDEX
from zaya_core.files.write_errors import NO_ROOM
from zaya_core.proxies import Route, by_way_of, route_to
from zaya_core.redaction import public_url, redacted

DEFAULT_REVISION = "main"
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.md", "LICENSE*"]
UNWANTED = ["*/*"]  # nothing of a model lies in subfolders

_route = Route(by_client=True)  # that of the Hub's client


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. `checksum`: SHA-256, or for a small file the SHA-1 of its git object; the blob's name."""

    path: str
    size: int
    checksum: str


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit that a model needs."""

    repo: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def weight_bytes(self) -> int:
        return sum(file.size for file in self.files if file.path.endswith(".safetensors"))


def list_files(repo: str, revision: str) -> Listing:
    """Ask the Hub. Raises NetworkError or ModelNotFoundError, in words."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils import filter_repo_objects

    with hub_errors(repo, revision):
        api = HfApi()
        commit = api.model_info(repo, revision=revision).sha
        assert commit is not None  # the Hub always names one
        entries = [entry for entry in api.list_repo_tree(repo, revision=commit) if isinstance(entry, RepoFile)]
    wanted = filter_repo_objects(entries, allow_patterns=WANTED, ignore_patterns=UNWANTED, key=lambda file: file.path)
    files = (RemoteFile(file.path, file.size, file.lfs.sha256 if file.lfs else file.blob_id) for file in wanted)
    return Listing(repo, revision, commit, tuple(sorted(files, key=lambda file: file.path)))


def cached_folder(repo: str, revision: str = DEFAULT_REVISION) -> Path | None:
    """The folder of a completely downloaded repository, None if there is none. Never uses the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                repo, revision=revision, local_files_only=True, allow_patterns=WANTED, ignore_patterns=UNWANTED
            )
        )
    except LocalEntryNotFoundError:
        return None
    return folder if _is_whole(folder) else None


def _is_whole(folder: Path) -> bool:
    """Whether the configuration and all weights are there: other programs fetch some files of a repository only."""
    if not (folder / "config.json").is_file():
        return False
    if not (folder / INDEX).is_file():
        return any(path.is_file() for path in folder.glob("*.safetensors"))
    try:
        ModelFolder(folder).expect_weight_files()
    except ModelNotFoundError:
        return False
    except CheckpointError:  # all that was asked for is there, and is damaged
        pass
    return True


def cache_root() -> Path:
    """The folder of all cached repositories."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repo_folder(repo: str) -> Path:
    """Where the cache keeps a repository, whether or not it is there."""
    from huggingface_hub.file_download import repo_folder_name

    return cache_root() / repo_folder_name(repo_id=repo, repo_type="model")


def is_repo_name(name: str) -> bool:
    """Whether the Hub allows this name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    from huggingface_hub import constants

    return constants.is_offline_mode()


@contextmanager
def hub_errors(repo: str, revision: str = DEFAULT_REVISION) -> Iterator[None]:
    """Turn the errors of huggingface_hub and its HTTP client into this program's; its token is checked first."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    prepare_hub_token()
    try:
        _use_proxies()
        yield
    except ZayaError:
        raise
    except OfflineModeIsEnabled:
        raise ModelNotFoundError(
            f"{repo} is not complete on this machine, and HF_HUB_OFFLINE forbids the network: unset it to download."
        ) from None
    except HFValidationError:
        raise UsageError(f"{repo!r} is not the name of a repository: give OWNER/NAME, as in Zyphra/ZAYA1-8B.") from None
    except HTTPError as error:
        _raise_network_error(error, repo, revision)
    except OSError as error:
        raise_disk_error(error)
        cause = error.__cause__
        if isinstance(cause, HTTPError):
            _raise_network_error(cause, repo, revision)
        raise


def _use_proxies() -> None:
    """Let the Hub's client reach its address as `zaya_core.proxies` says. Raises NetworkError for an unusable proxy."""
    from httpx2 import Client
    from huggingface_hub import constants, set_client_factory

    global _route
    if is_offline() or (route := route_to(constants.ENDPOINT)) == _route:
        return
    _route = route
    # as the Hub's own, but for the number that it gives each request
    set_client_factory(lambda: Client(**route.client_settings(), follow_redirects=True, timeout=None))


def raise_disk_error(error: OSError) -> None:
    """Raise DiskSpaceError if that is what the system reports, else return."""
    if error.errno in NO_ROOM:
        where = f" of {error.filename}" if error.filename else ""
        raise DiskSpaceError(
            f"The disk{where} is full, or has a limit on files ({error.strerror}): free some space and type the same "
            "again; what is finished is kept."
        ) from None


def _raise_network_error(error: Exception, repo: str, revision: str) -> NoReturn:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    endpoint = public_url(constants.ENDPOINT)
    if not isinstance(error, HfHubHTTPError):
        raise NetworkError(
            f"{endpoint} cannot be reached{by_way_of(constants.ENDPOINT)} ({_words(error)}): check the "
            "connection and type the same again; what is finished is kept."
        ) from None
    status = error.response.status_code
    if isinstance(error, RevisionNotFoundError):
        raise ModelNotFoundError(f"{repo} has no revision {revision}: give a branch, a tag or a commit.") from None
    if status in (401, 403):
        raise NetworkError(
            f"{endpoint} refuses access to {repo} ({status}): check the name; for a private or gated "
            "repository, accept its terms there and log in with `hf auth login`, or set HF_TOKEN."
        ) from None
    if status == 404:
        raise ModelNotFoundError(f"{endpoint} has no repository {repo}: check the name.") from None
    raise NetworkError(
        f"{endpoint} answers with error {status} for {repo}: try again later; what is finished is kept."
    ) from None


def _words(error: Exception) -> str:
    return " ".join(redacted(str(error)).split())[:200] or type(error).__name__
