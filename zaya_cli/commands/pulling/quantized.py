"""`zaya pull --quant`: quantize each file of a model as it arrives."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from zaya_cli.commands.quantize import quantization_job, run_job
from zaya_cli.failures import INTERRUPTED, Interrupted
from zaya_cli.flags.quantize import QuantizeCommand
from zaya_cli.models import hub
from zaya_cli.models.download import FILES_AT_ONCE, Fetcher, Stopped
from zaya_cli.models.download_progress import download_progress
from zaya_cli.models.originals import Originals, staged
from zaya_cli.models.quantized_folder import ORIGINALS, SourceName, default_out
from zaya_cli.sizes import gigabytes
from zaya_cli.terminal.interrupt import stopping
from zaya_core.checkpoint.outline import keeps_holes
from zaya_core.quantize.run import steps_left


def quantize_cached(settings: QuantizeCommand, folder: Path, name: SourceName, console: Console) -> Path:
    """Quantize a model that is whole on this machine -> the folder of the result."""
    out = default_out(name, settings.format, settings.dense)
    with _interruptible():
        run_job(settings, quantization_job(settings, folder, name, out), console)
    return out


def can_stage(out: Path) -> bool:
    """Whether a model can be quantized as it arrives, on the disk of its result."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return keeps_holes(out.parent)


def quantize_arriving(settings: QuantizeCommand, fetcher: Fetcher, discards: bool, console: Console) -> Path:
    """Fetch and quantize at the same time -> the folder of the result.

    fetcher: of the cache, where the files stay unless `discards`. Raises the errors of the Hub, of the disk and of
    `zaya_core.quantize.run`, and Interrupted after a signal; what is finished is kept in each case.
    """
    listing = fetcher.listing
    name = SourceName(listing.repo, listing.commit)
    out = default_out(name, settings.format, settings.dense)
    staging = out.with_name(out.name + ORIGINALS)
    with staged(staging), _fetching(fetcher) as workers:
        own = Fetcher(listing, fetcher.on_bytes, fetcher.stop, staging / "files") if discards else fetcher
        originals = Originals(fetcher, own, staging, workers)
        originals.prepare()
        job = quantization_job(settings, originals.view, name, out, originals)
        missing = originals.missing(steps_left(job))
        counts = originals.counts(missing)
        left = counts.total_bytes - counts.bytes_here
        console.print(f"{gigabytes(left)} are still to download, quantized as they arrive")
        with download_progress(console, settings.quiet, counts) as progress:
            originals.begin(missing, progress)
            run_job(settings, job, console)
            originals.finish()
    return out


@contextmanager
def _fetching(fetcher: Fetcher) -> Iterator[ThreadPoolExecutor]:
    """Workers that stop with the block, however it ends."""
    workers = ThreadPoolExecutor(FILES_AT_ONCE)
    listing = fetcher.listing
    try:
        with _interruptible(), hub.hub_errors(listing.repo, listing.revision):
            yield workers
    finally:
        fetcher.stop.set()
        workers.shutdown(cancel_futures=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """A signal ends the block as Ctrl-C does."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with stopping(on_first=interrupt) as request:
        try:
            yield
        except (KeyboardInterrupt, Stopped):
            raise Interrupted(request.exit_code or INTERRUPTED) from None
