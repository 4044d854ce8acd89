"""Fetch files into the cache of huggingface_hub so that no byte that arrived is fetched twice.

huggingface_hub starts an interrupted file from its beginning: it writes to a temporary file of its own for each
attempt, because locks cannot be trusted on network file systems. Here a file's bytes are appended to
`blobs/CHECKSUM.zaya.incomplete`, an attempt asks for the missing range, and the checksum of the whole decides (a broken
lock then costs a second download, not a damaged model). `hf cache prune` removes such leftovers like any other.

Files come over HTTP also from repositories in Xet storage: its own protocol has no resumption either.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, BinaryIO

from zaya_cli.models.hub import Listing, RemoteFile, repo_folder
from zaya_core.errors import NetworkError

if TYPE_CHECKING:
    from httpx2 import Response

CHUNK = 1 << 20
FILES_AT_ONCE = 4
_READ_TIMEOUT = 20.0  # seconds without a byte
_LOCK_TRIED_FOR = 1.0  # seconds
_ATTEMPTS = 6  # in a row without a byte
_FIRST_PAUSE = 1.0  # seconds; doubled after each attempt
_RETRIED = (408, 425, 429, 500, 502, 503, 504)

OnBytes = Callable[[int], None]


class Stopped(Exception):
    """The person asked to stop; what has arrived is kept."""


class Fetcher:
    """Downloads the files of one listing.

    on_bytes: called from any thread with the number of bytes that arrived (negative when some must be fetched again).
    stop: set to end at the next chunk. folder: where the repository is kept, None for its place in the cache.
    """

    def __init__(self, listing: Listing, on_bytes: OnBytes, stop: Event, folder: Path | None = None):
        self.listing = listing
        self.folder = folder or repo_folder(listing.repo)
        self.on_bytes = on_bytes
        self.stop = stop

    def is_finished(self, file: RemoteFile) -> bool:
        """Whether the whole file is here."""
        return self.path_of(file) is not None

    def path_of(self, file: RemoteFile) -> Path | None:
        """Where the whole file is; None if it is not here."""
        places = (self.blob(file), self._plain(file))
        return next((path for path in places if path.is_file() and path.stat().st_size == file.size), None)

    def bytes_here(self, file: RemoteFile) -> int:
        """How many bytes of the file need not be fetched."""
        if self.is_finished(file):
            return file.size
        partial = self._partial(file)
        return min(partial.stat().st_size, file.size) if partial.is_file() else 0

    def blob(self, file: RemoteFile) -> Path:
        """Where the content lies in a cache with symbolic links."""
        return self.folder / "blobs" / file.checksum

    def _plain(self, file: RemoteFile) -> Path:
        return self.folder / "snapshots" / self.listing.commit / file.path

    def _partial(self, file: RemoteFile) -> Path:
        """Where the bytes of an unfinished file are collected."""
        return self.folder / "blobs" / f"{file.checksum}.zaya.incomplete"

    def _destination(self, file: RemoteFile) -> Path:
        """Where a finished file belongs: among the blobs, or in the snapshot where there are no symbolic links."""
        from huggingface_hub.file_download import are_symlinks_supported

        return self.blob(file) if are_symlinks_supported(self.folder.parent) else self._plain(file)

    def fetch(self, file: RemoteFile) -> None:
        """Complete one file. Raises NetworkError, Stopped, and the OSErrors of the disk."""
        destination, partial = self._destination(file), self._partial(file)
        destination.parent.mkdir(parents=True, exist_ok=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        with self._lock(file):
            if self.is_finished(file):  # by another program that held the lock
                return
            for _ in range(2):
                self._complete(file, partial)
                if checksum_of(partial, file.checksum, self._raise_if_stopped) == file.checksum:
                    os.replace(partial, destination)
                    return
                partial.unlink()
                self.on_bytes(-file.size)
        raise NetworkError(
            f"{file.path} arrived twice with another checksum than {file.checksum[:12]}..., which the Hub announces: "
            "a proxy may change it; type the same again later."
        )

    def _lock(self, file: RemoteFile) -> AbstractContextManager[object]:
        """The lock that huggingface_hub takes for this file, so that its downloads and ours do not meet."""
        from filelock import Timeout
        from huggingface_hub.utils import WeakFileLock

        path = self.folder.parent / ".locks" / self.folder.name / f"{file.checksum}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        held = ExitStack()
        while True:
            try:
                held.enter_context(WeakFileLock(path, timeout=_LOCK_TRIED_FOR))
                return held
            except Timeout:  # another program is downloading this file
                self._raise_if_stopped()

    def _complete(self, file: RemoteFile, partial: Path) -> None:
        """Append until the file has its size; go on after failures that another attempt may heal."""
        attempts = 0
        partial.touch()
        while (before := partial.stat().st_size) < file.size:
            failure = self._failure_of(lambda: self._append(file, partial))
            if (here := partial.stat().st_size) >= file.size:
                break
            attempts = 1 if here > before else attempts + 1
            self._pause(file, here, attempts, failure)

    def part(self, file: RemoteFile, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of a file, whose checksum is not verified. Raises NetworkError, Stopped."""
        attempts = 0
        arrived: list[bytes] = []
        while True:
            failure = self._failure_of(lambda: arrived.append(self._read_part(file, start, stop)))
            if arrived and len(arrived[-1]) == stop - start:
                return arrived[-1]
            attempts += 1
            self._pause(file, start, attempts, failure)

    def _failure_of(self, request: Callable[[], None]) -> str:
        """Do one request -> what went wrong, where another attempt may heal it."""
        from httpx2 import TransportError
        from huggingface_hub.errors import HfHubHTTPError

        try:
            request()
        except TransportError as error:
            return str(error) or type(error).__name__
        except HfHubHTTPError as error:
            if error.response.status_code not in _RETRIED:
                raise
            return f"error {error.response.status_code}"
        return "it ended early"

    def _pause(self, file: RemoteFile, here: int, attempts: int, failure: str) -> None:
        """Wait before the next attempt. Raises NetworkError after too many."""
        if attempts >= _ATTEMPTS:
            raise NetworkError(
                f"The download of {file.path} failed {attempts} times in a row at byte {here:,} of {file.size:,} "
                f"({failure}): check the connection and type the same again; it goes on from there."
            )
        if self.stop.wait(_FIRST_PAUSE * 2 ** (attempts - 1)):
            raise Stopped

    @contextmanager
    def _response(self, file: RemoteFile, span: str | None) -> Iterator[Response]:
        """One request, for a range of bytes. Redirects are followed; the client keeps the token from other hosts."""
        from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers

        headers = {**build_hf_headers(library_name="zaya"), "Accept-Encoding": "identity"}
        if span is not None:
            headers["Range"] = f"bytes={span}"
        url = hf_hub_url(self.listing.repo, file.path, revision=self.listing.commit)
        with get_session().stream("GET", url, headers=headers, timeout=_READ_TIMEOUT) as response:
            hf_raise_for_status(response)
            yield response

    def _read_part(self, file: RemoteFile, start: int, stop: int) -> bytes:
        with self._response(file, f"{start}-{stop - 1}") as response:
            if response.status_code != 206:
                raise NetworkError(
                    f"{file.path} comes only as a whole, so that it cannot be quantized as it arrives: type `zaya "
                    "pull`, then `zaya quantize`."
                )
            return response.read()

    def _append(self, file: RemoteFile, partial: Path) -> None:
        """One request for what is missing."""
        offset = partial.stat().st_size
        span = f"{offset}-" if offset else None
        with self._response(file, span) as response, partial.open("ab", buffering=0) as out:
            if offset and response.status_code != 206:  # the whole file comes, whatever was asked for
                out.truncate(0)
                self.on_bytes(-offset)
                offset = 0
            for chunk in response.iter_raw(CHUNK):
                self._raise_if_stopped()
                self._write(out, chunk)
                offset += len(chunk)
                if offset > file.size:
                    return  # the checksum will tell

    def _write(self, out: BinaryIO, chunk: bytes) -> None:
        """All of a chunk: an unbuffered file may take less at a time, and says nothing."""
        rest = memoryview(chunk)
        while rest:
            written = out.write(rest)
            rest = rest[written:]
        self.on_bytes(len(chunk))

    def _raise_if_stopped(self) -> None:
        if self.stop.is_set():
            raise Stopped


def checksum_of(path: Path, like: str, between: Callable[[], None] = lambda: None) -> str:
    """The checksum of a file, of the kind of `like`: 64 digits are SHA-256, 40 the SHA-1 of a git object.

    `between` is called after every chunk.
    """
    digest = hashlib.sha256() if len(like) == 64 else hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
            between()
    return digest.hexdigest()
