"""`zaya pull`: download a model into the cache of huggingface_hub, after saying whether it will run here."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from rich.console import Console

from zaya_cli import hub
from zaya_cli.download import Fetcher, Stopped
from zaya_cli.download_progress import Counts, download_progress
from zaya_cli.failures import Interrupted
from zaya_cli.fit_report import FormatFit, advice, fits_of, table_of
from zaya_cli.interrupt import stopping
from zaya_cli.machine import Memory, free_disk, memory_of
from zaya_cli.model_folder import DEFAULT_REPO
from zaya_cli.output import Color, stderr_console, stdout_console, write_answer
from zaya_cli.sizes import gigabytes
from zaya_core.config import ModelConfig, read_config, read_json
from zaya_core.errors import ConfigError, DiskSpaceError, MemoryFitError, ModelNotFoundError

_FILES_AT_ONCE = 4
_CONFIG = "config.json"
_CONFIG_BYTES = 4_000_000


@dataclass(frozen=True)
class PullSettings:
    """All that `zaya pull` was asked for."""

    repo: str | None
    revision: str
    device: str
    dry_run: bool
    force: bool
    color: Color
    quiet: bool


def pull(settings: PullSettings) -> None:
    """Print the plan, download what is missing, print the folder on stdout.

    Raises the errors of the Hub and the disk, MemoryFitError for a model that no format makes fit, and Interrupted
    after Ctrl-C; what has arrived is kept in each case.
    """
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # this command has its own
    repo = settings.repo or DEFAULT_REPO
    if hub.is_offline():
        write_answer(f"{_already_here(repo, settings.revision)}\n")
        return
    listing = hub.list_files(repo, settings.revision)
    _expect_model(listing)
    config = _read_remote_config(listing, settings)
    stop, console = Event(), _console(settings)
    fetcher = Fetcher(listing, lambda count: None, stop)
    missing = _announce(console, fetcher, listing.files if settings.dry_run else ())
    memory = memory_of(settings.device)
    fits = fits_of(config, listing.weight_bytes, memory)
    for line in table_of(fits, memory):
        console.print(line)
    if settings.dry_run:
        return
    _check_disk(fetcher, missing)
    _check_fit(repo, fits, memory, settings.force)
    _download(fetcher, settings)
    write_answer(f"{_link(listing)}\n")


def _console(settings: PullSettings) -> Console:
    if settings.dry_run:
        return stdout_console(settings.color)
    return Console(quiet=True) if settings.quiet else stderr_console(settings.color)


def _already_here(repo: str, revision: str) -> Path:
    folder = hub.cached_folder(repo, revision)
    if folder is None:
        raise ModelNotFoundError(
            f"{repo} is not complete on this machine, and HF_HUB_OFFLINE forbids the network: unset it to download."
        )
    return folder


def _expect_model(listing: hub.Listing) -> None:
    paths = {file.path for file in listing.files}
    if _CONFIG not in paths or not listing.weight_bytes:
        lacks = _CONFIG if _CONFIG not in paths else "*.safetensors files"
        raise ModelNotFoundError(
            f"{listing.repo} has no {lacks}: only repositories with safetensors weights can be used, such as "
            f"{DEFAULT_REPO}."
        )


def _read_remote_config(listing: hub.Listing, settings: PullSettings) -> ModelConfig | None:
    """None for a ZAYA in a format that this version cannot compute. Raises ConfigError for another model."""
    from huggingface_hub import hf_hub_download

    with TemporaryDirectory() as temporary, hub.hub_errors(listing.repo, listing.revision):
        cache = temporary if settings.dry_run else None
        path = Path(hf_hub_download(listing.repo, _CONFIG, revision=listing.commit, cache_dir=cache))
        model_type = read_json(path, _CONFIG_BYTES, ConfigError).get("model_type")
        try:
            return read_config(path.parent)
        except ConfigError as error:
            if model_type != "zaya" and not settings.force:
                raise
            stderr_console(settings.color).print(f"zaya: this version cannot compute {listing.repo} ({error})")
            return None


def _announce(console: Console, fetcher: Fetcher, listed: tuple[hub.RemoteFile, ...]) -> int:
    """Say what is here and what is missing -> bytes to fetch."""
    listing = fetcher.listing
    for file in listed:
        state = "here" if (here := fetcher.bytes_here(file)) == file.size else f"{gigabytes(here)} here" if here else ""
        console.print(f"{file.path:<40}{gigabytes(file.size):>14}  {state}".rstrip())
    here = sum(fetcher.bytes_here(file) for file in listing.files)
    missing = listing.total_bytes - here
    present = f"{gigabytes(here)} are here, " if here else ""
    console.print(
        f"{listing.repo} {listing.commit[:8]}: {len(listing.files)} files, {gigabytes(listing.total_bytes)}; "
        f"{present}{gigabytes(missing)} to download"
    )
    console.print(f"disk     {gigabytes(free_disk(fetcher.folder))} free in {hub.cache_root()}")
    return missing


def _check_disk(fetcher: Fetcher, missing: int) -> None:
    free = free_disk(fetcher.folder)
    if missing > free:
        raise DiskSpaceError(
            f"{fetcher.listing.repo} needs {gigabytes(missing)} more on the disk of {hub.cache_root()}, where "
            f"{gigabytes(free)} are free: free some space, or set HF_HOME to a folder on another disk."
        )


def _check_fit(repo: str, fits: list[FormatFit], memory: Memory, force: bool) -> None:
    if not force and fits and all(fit.verdict == "does not fit" for fit in fits):
        raise MemoryFitError(
            f"{repo} does not fit into this machine's memory: {advice(fits, memory)}; --force downloads it anyway."
        )


def _download(fetcher: Fetcher, settings: PullSettings) -> None:
    """Several files at once; the first failure, or the person, stops all."""
    files = fetcher.listing.files
    finished = [file for file in files if fetcher.is_finished(file)]
    counts = Counts(
        sum(file.size for file in files), sum(map(fetcher.bytes_here, files)), len(files), len(finished)
    )  # fmt: skip
    with (
        download_progress(stderr_console(settings.color), settings.quiet, counts) as progress,
        stopping(on_first=fetcher.stop.set) as request,
        ThreadPoolExecutor(_FILES_AT_ONCE) as workers,
    ):
        fetcher.on_bytes = progress.add_bytes
        missing = sorted(set(files) - set(finished), key=lambda file: -file.size)
        running = [workers.submit(fetcher.fetch, file) for file in missing]
        for one in running:
            one.add_done_callback(lambda done: None if done.exception() else progress.add_file())
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        fetcher.stop.set()
    if request.exit_code is not None:
        raise Interrupted(request.exit_code)
    for one in done:
        error = one.exception()
        if error is not None and not isinstance(error, Stopped):
            with hub.hub_errors(fetcher.listing.repo, fetcher.listing.revision):
                raise error


def _link(listing: hub.Listing) -> Path:
    """Let huggingface_hub make the snapshot of what is in its cache now -> its folder."""
    from huggingface_hub import snapshot_download

    with hub.hub_errors(listing.repo, listing.revision):
        return Path(
            snapshot_download(
                listing.repo, revision=listing.revision, allow_patterns=hub.WANTED, ignore_patterns=hub.UNWANTED
            )
        )
