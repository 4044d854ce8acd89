"""The files of a model that is quantized while they arrive: fetched when they are needed, deleted when that was asked.

A folder of links stands for the model. A link leads to the whole file once it is here, in the cache of huggingface_hub
or in a folder of ours; before, to an outline of it, which has its header; and after its layers are done, if files are
discarded, to what the last shard still reads of it. Only what lies in our own folder is ever deleted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from zaya_cli.models.download import Fetcher
from zaya_cli.models.download_progress import Counts, DownloadProgress
from zaya_cli.models.hub import RemoteFile
from zaya_core.checkpoint.fingerprint import END_BYTES
from zaya_core.checkpoint.outline import has_ends_of, header_bytes, write_outline, write_reduced
from zaya_core.errors import NetworkError
from zaya_core.files.exclusive import held, lock_beside
from zaya_core.quantize.source_files import OwnFile, SourceFiles, Step


class Originals(SourceFiles):
    """The weight files of a listing.

    cached: of the cache. own: where missing files are fetched to; the same where they are to stay. staging: our folder.
    `view` is the folder that stands for the model.
    """

    def __init__(self, cached: Fetcher, own: Fetcher, staging: Path, workers: ThreadPoolExecutor):
        self.cached, self.own, self.staging = cached, own, staging
        self.discards = own is not cached
        self.view = staging / "view"
        self.progress: DownloadProgress | None = None
        self._workers = workers
        self._running: dict[str, Future[None]] = {}
        self._weights = {file.path: file for file in own.listing.files if file.path.endswith(".safetensors")}

    def prepare(self) -> None:
        """Make the folder of links: small files are fetched, of weights that are not here their outlines."""
        shutil.rmtree(self.view, ignore_errors=True)
        self.view.mkdir(parents=True)
        for file in self.own.listing.files:
            if file.path in self._weights:
                self._prepare_weights(file)
            else:
                if self._whole(file) is None:
                    self.own.fetch(file)
                self._link(file)

    def _prepare_weights(self, file: RemoteFile) -> None:
        outline = self._outline(file)
        if self._whole(file) is None and not outline.is_file():
            beginning = self.own.part(file, 0, min(END_BYTES, file.size))
            header = header_bytes(beginning, file.path)
            if len(beginning) < header <= file.size:
                beginning += self.own.part(file, len(beginning), header)
            end = self.own.part(file, max(0, file.size - END_BYTES), file.size)
            outline.parent.mkdir(parents=True, exist_ok=True)
            write_outline(outline, file.size, beginning, end)
        self._link(file)

    def _outline(self, file: RemoteFile) -> Path:
        return self.staging / "outlines" / file.checksum

    def _reduced(self, file: RemoteFile) -> Path:
        return self.staging / "reduced" / file.checksum

    def _whole(self, file: RemoteFile) -> Path | None:
        return self.cached.path_of(file) or self.own.path_of(file)

    def _link(self, file: RemoteFile) -> None:
        """To the most that there is of the file."""
        reduced = self._reduced(file)
        target = self._whole(file) or (reduced if reduced.is_file() else self._outline(file))
        link = self.view / f"{file.path}.tmp"
        link.symlink_to(target.resolve())
        os.replace(link, self.view / file.path)

    def missing(self, steps: list[Step]) -> list[RemoteFile]:
        """The files that these steps read, or that are to stay, and that are not here; in the order of need."""
        names = [name for step in steps for name in (*sorted(step.rest), *sorted(step.layers))]
        names += [] if self.discards else self._weights
        return [self._weights[name] for name in dict.fromkeys(names) if not self._is_there(name, steps)]

    def _is_there(self, name: str, steps: list[Step]) -> bool:
        file = self._weights[name]
        is_whole_needed = not self.discards or any(name in step.layers for step in steps)
        return self._whole(file) is not None or (not is_whole_needed and self._reduced(file).is_file())

    def counts(self, missing: list[RemoteFile]) -> Counts:
        """For the progress of their download."""
        return Counts(sum(file.size for file in missing), sum(map(self.own.bytes_here, missing)), len(missing), 0)

    def own_files(self) -> Mapping[str, OwnFile]:
        """See `SourceFiles`."""
        if not self.discards:
            return {}
        return {name: self._own(file) for name, file in self._weights.items() if self.cached.path_of(file) is None}

    def _own(self, file: RemoteFile) -> OwnFile:
        reduced = self._reduced(file)
        here, is_reduced = self.own.bytes_here(file), reduced.is_file()
        if is_reduced:
            here += reduced.stat().st_blocks * 512
        return OwnFile(file.size, here, is_reduced)

    def begin(self, missing: list[RemoteFile], progress: DownloadProgress) -> None:
        """Start fetching, where the files may stay: all of them, in the order of need."""
        self.progress = progress
        self.own.on_bytes = progress.add_bytes
        for file in () if self.discards else missing:
            self._start(file)

    def _start(self, file: RemoteFile) -> None:
        if file.path not in self._running and self._whole(file) is None:
            self._running[file.path] = self._workers.submit(self._fetch, file)

    def _fetch(self, file: RemoteFile) -> None:
        self.own.fetch(file)
        assert self.progress is not None  # since `begin`
        self.progress.add_file()

    def bring(self, step: Step) -> None:
        """See `SourceFiles`. Raises the errors of the fetcher."""
        needed = [name for name in (*sorted(step.rest), *sorted(step.layers)) if not self._is_there(name, [step])]
        for name in (*needed, *step.ahead):
            self._start(self._weights[name])
        for name in dict.fromkeys(needed):
            self._running[name].result()
            self._expect_as_outlined(self._weights[name])
        for name in (*step.rest, *step.layers):
            self._link(self._weights[name])

    def _expect_as_outlined(self, file: RemoteFile) -> None:
        """What the result remembers of its source was computed from the outline, which has no checksum."""
        whole, outline = self._whole(file), self._outline(file)
        if whole is not None and outline.is_file() and not has_ends_of(outline, whole):
            outline.unlink()
            raise NetworkError(
                f"{file.path} arrived with another beginning or end than it had when they were looked at: a proxy may "
                f"change them; delete {self.staging.with_suffix('.unfinished')} and type the same again."
            )

    def give_up(self, step: Step) -> None:
        """See `SourceFiles`. Deletes only what was fetched into our own folder."""
        for name in self.own_files().keys() - step.layers_later:
            file, tensors = self._weights[name], step.rest_later.get(name)
            blob, reduced = self.own.path_of(file), self._reduced(file)
            if tensors and blob is not None:
                reduced.parent.mkdir(parents=True, exist_ok=True)
                write_reduced(blob, reduced, tensors)
            if blob is not None:
                blob.unlink()
            if not tensors:
                reduced.unlink(missing_ok=True)
            self._link(file)

    def finish(self) -> None:
        """Wait until everything has been fetched that may stay, and delete our folder."""
        for one in self._running.values():
            one.result()
        shutil.rmtree(self.staging)


@contextmanager
def staged(staging: Path) -> Iterator[None]:
    """Nobody else uses the folder for the length of the block. Raises UsageError where somebody does."""
    staging.parent.mkdir(parents=True, exist_ok=True)
    with held(lock_beside(staging), f"pulling into {staging}", "wait for it"):
        staging.mkdir(exist_ok=True)
        yield
