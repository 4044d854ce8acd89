"""All files of a repository into the cache of huggingface_hub, several at once."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from rich.console import Console

from zaya_cli.failures import Interrupted
from zaya_cli.models import hub
from zaya_cli.models.download import FILES_AT_ONCE, Fetcher, Stopped
from zaya_cli.models.download_progress import Counts, DownloadProgress, download_progress
from zaya_cli.terminal.interrupt import stopping


def fetch_all(fetcher: Fetcher, console: Console, quiet: bool) -> None:
    """The first failure, or the person, stops all. Raises it, in the words of the Hub or the disk, or Interrupted."""
    files = fetcher.listing.files
    finished = [file for file in files if fetcher.is_finished(file)]
    counts = Counts(
        sum(file.size for file in files), sum(map(fetcher.bytes_here, files)), len(files), len(finished)
    )  # fmt: skip
    missing = sorted(set(files) - set(finished), key=lambda file: -file.size)
    with (
        download_progress(console, quiet, counts) as progress,
        stopping(on_first=fetcher.stop.set) as request,
        ThreadPoolExecutor(FILES_AT_ONCE) as workers,
    ):
        fetcher.on_bytes = progress.add_bytes
        running = [_begun(workers, fetcher, file, progress) for file in missing]
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        fetcher.stop.set()
    if request.exit_code is not None:
        raise Interrupted(request.exit_code)
    for error in (one.exception() for one in done):
        if error is not None and not isinstance(error, Stopped):
            with hub.hub_errors(fetcher.listing.repo, fetcher.listing.revision):
                raise error


def _begun(
    workers: ThreadPoolExecutor, fetcher: Fetcher, file: hub.RemoteFile, progress: DownloadProgress
) -> Future[None]:
    begun = workers.submit(fetcher.fetch, file)
    begun.add_done_callback(lambda done: None if done.exception() else progress.add_file())
    return begun


def link_snapshot(listing: hub.Listing) -> Path:
    """Let huggingface_hub make the snapshot of what is in its cache now -> its folder."""
    from huggingface_hub import snapshot_download

    with hub.hub_errors(listing.repo, listing.revision):
        return Path(
            snapshot_download(
                listing.repo, revision=listing.revision, allow_patterns=hub.WANTED, ignore_patterns=hub.UNWANTED
            )
        )
