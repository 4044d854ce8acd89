"""`zaya pull`: download a model into the cache of huggingface_hub, after saying whether it will run here.

With --quant it is quantized while it arrives, see `pull_quantized`.
"""

from __future__ import annotations

import os
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from rich.console import Console

from zaya_cli.commands.quantize import QuantizeCommand
from zaya_cli.failures import Interrupted
from zaya_cli.machine.hardware import Memory, free_disk, memory_of, on_same_disk, why_not_writable
from zaya_cli.models import hub
from zaya_cli.models.download import FILES_AT_ONCE, Fetcher, Stopped
from zaya_cli.models.download_progress import Counts, download_progress
from zaya_cli.models.fit_report import FormatFit, advice, fit_of, fits_of, table_of
from zaya_cli.models.folder import DEFAULT_REPO, bundled_names
from zaya_cli.models.locks import downloading, downloading_alone
from zaya_cli.models.names import expect_supported, repo_of
from zaya_cli.models.quantized_folder import SourceName, default_out
from zaya_cli.sizes import gigabytes
from zaya_cli.terminal.interrupt import stopping
from zaya_cli.terminal.output import Color, stderr_console, stdout_console, write_answer
from zaya_cli.terminal.visible import one_line
from zaya_cli.user_files import quantized_models
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.parse import read_config
from zaya_core.config.weight_formats import DEFAULT_DENSE, FAST_FORMATS, DenseFormat, FastFormat
from zaya_core.errors import ConfigError, DiskSpaceError, MemoryFitError, ModelNotFoundError, UsageError
from zaya_core.files.model_json import read_json

_CONFIG = "config.json"


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
    quant: FastFormat | None = None
    dense: DenseFormat | None = None
    calibrate: str | None = None
    discards: bool = False

    @property
    def quantization(self) -> QuantizeCommand | None:
        """What --quant and the flags that belong to it ask for."""
        if self.quant is None:
            return None
        return QuantizeCommand(
            self.repo, self.quant, self.dense or DEFAULT_DENSE, self.calibrate, None, False, None, self.quiet
        )  # fmt: skip


def pull(settings: PullSettings) -> None:
    """Print the plan, download what is missing, print the folder on stdout.

    Raises the errors of the Hub and the disk, MemoryFitError for a model that no format makes fit, and Interrupted
    after Ctrl-C; what has arrived is kept in each case.
    """
    from huggingface_hub.utils import disable_progress_bars

    _expect_consistent(settings)
    disable_progress_bars()  # this command has its own
    repo, _, revision = repo_of(settings.repo or DEFAULT_REPO).partition("@")
    if repo in bundled_names():
        raise UsageError(f"{repo} is part of the program: use it with --model {repo}, there is nothing to download.")
    expect_supported(repo)
    settings = replace(settings, repo=repo, revision=_revision(settings, revision))
    if (obstacle := why_not_writable(hub.cache_root())) is not None and not settings.dry_run:
        variable = next((one for one in ("HF_HUB_CACHE", "HF_HOME") if os.environ.get(one)), "HF_HOME")
        raise UsageError(
            f"{hub.cache_root()} cannot be written ({obstacle}): set {variable} to a folder that you may write to."
        )
    folder = _offline(repo, settings) if hub.is_offline() else _online(repo, settings)
    if folder is not None:
        write_answer(f"{folder}\n")


def _revision(settings: PullSettings, named: str) -> str:
    """That of --revision, or what the name of the repository ends with. Raises UsageError where they differ."""
    if not named or settings.revision == named:
        return settings.revision
    if settings.revision != hub.DEFAULT_REVISION:
        raise UsageError(f"{settings.repo} names the revision {named}, and --revision {settings.revision}: give one.")
    return named


def _expect_consistent(settings: PullSettings) -> None:
    asked = {
        "--dense": settings.dense is not None,
        "--calibrate": settings.calibrate is not None,
        "--discard-originals": settings.discards,
    }
    for flag in (flag for flag, is_given in asked.items() if is_given and settings.quant is None):
        choices = " or ".join(f"--quant {name}" for name in FAST_FORMATS)
        raise UsageError(f"{flag} says how to quantize: add {choices}, or leave it out.")


def _offline(repo: str, settings: PullSettings) -> Path:
    command = settings.quantization
    if command is None:
        return _already_here(repo, settings.revision)
    if (made := _made_before(repo, None, command)) is not None:
        return made
    from zaya_cli.commands.pull_quantized import quantize_cached

    folder = _already_here(repo, settings.revision)
    return quantize_cached(command, folder, SourceName(repo, folder.name), _console(settings))


def _online(repo: str, settings: PullSettings) -> Path | None:
    """The folder; None after a dry run."""
    listing = hub.list_files(repo, settings.revision)
    _expect_model(listing)
    command = settings.quantization
    if command is not None and (made := _made_before(repo, listing.commit, command)) is not None:
        return made
    config = _read_remote_config(listing, settings)
    console = _console(settings)
    fetcher = Fetcher(listing, lambda count: None, Event())
    missing = _announce(console, fetcher, listing.files if settings.dry_run else ())
    if not settings.discards:
        console.print(f"disk     {gigabytes(free_disk(fetcher.folder))} free in {hub.cache_root()}")
    memory = memory_of(settings.device)
    fits = fits_of(config, listing.weight_bytes, memory)
    result = 0
    if command is not None:
        fits = [fit_of(_expect_quantizable(config, repo), command.format, command.dense, memory)]
        result = fits[0].need.weights
        _announce_quantized(console, command, listing, missing, result, settings.discards)
    for line in table_of(fits, memory):
        console.print(line)
    if settings.dry_run:
        return None
    _check_fit(repo, fits, memory, settings.force)
    if not settings.discards:  # else it is known, and checked, when the files have been looked at
        _check_disk(fetcher, missing, result)
    return _fetched(fetcher, settings) if command is None else _quantized(fetcher, settings, command)


def _made_before(repo: str, commit: str | None, command: QuantizeCommand) -> Path | None:
    """The result, if it is there. Raises UsageError if it was made from another revision."""
    out = default_out(SourceName(repo, commit), command.format, command.dense)
    if not (out / _CONFIG).is_file():
        return None
    quantization = read_config(out).quantization
    source = {} if quantization is None else quantization.facts.get("source")
    made_from = source.get("revision") if isinstance(source, dict) else None
    if commit is not None and made_from != commit:
        raise UsageError(
            f"{out} was made from revision {str(made_from)[:8]}, not from {commit[:8]}: "
            f"`zaya models rm {out.name}` removes it."
        )
    return out


def _expect_quantizable(config: ModelConfig | None, repo: str) -> ModelConfig:
    if config is None or config.quantization is not None:
        raise UsageError(f"{repo} is quantized already, or cannot be: leave --quant out.")
    return config


def _announce_quantized(
    console: Console, command: QuantizeCommand, listing: hub.Listing, missing: int, result: int, discards: bool
) -> None:
    out = default_out(SourceName(listing.repo, listing.commit), command.format, command.dense)
    largest = sorted(file.size for file in listing.files)[-2:]
    at_once = min(sum(largest), missing) if discards else missing
    what = "with two of the original files at a time" if discards else "with the originals"
    console.print(f"disk     {gigabytes(free_disk(out))} free in {out.parent}")
    console.print(f"{command.format:<9}{gigabytes(result)}; {what} about {gigabytes(result + at_once)} of disk")


def _quantized(fetcher: Fetcher, settings: PullSettings, command: QuantizeCommand) -> Path:
    """Quantize as it arrives what is not here yet, where the file system lets one."""
    from zaya_cli.commands.pull_quantized import can_stage, quantize_arriving, quantize_cached

    listing, console = fetcher.listing, _console(settings)
    name = SourceName(listing.repo, listing.commit)
    is_here = all(fetcher.is_finished(file) for file in listing.files if file.path.endswith(".safetensors"))
    if not is_here and can_stage(default_out(name, command.format, command.dense)):
        with downloading_alone(listing.repo):
            out = quantize_arriving(command, fetcher, settings.discards, console)
            if not settings.discards:
                _link(listing)
        return out
    if not is_here and settings.discards:
        raise UsageError(
            "--discard-originals needs a file system with sparse files and symbolic links for the quantized folders: "
            "set XDG_DATA_HOME to a folder on another disk, or leave --discard-originals out."
        )
    return quantize_cached(command, _fetched(fetcher, settings), name, console)


def _fetched(fetcher: Fetcher, settings: PullSettings) -> Path:
    with downloading(fetcher.listing.repo, _console(settings)):
        _download(fetcher, settings)
        return _link(fetcher.listing)


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
        cache = temporary if settings.dry_run or settings.discards else None
        path = Path(hf_hub_download(listing.repo, _CONFIG, revision=listing.commit, cache_dir=cache))
        model_type = read_json(path, ConfigError).get("model_type")
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
        console.print(one_line(f"{file.path:<40}{gigabytes(file.size):>14}  {state}".rstrip()))
    here = sum(fetcher.bytes_here(file) for file in listing.files)
    missing = listing.total_bytes - here
    present = f"{gigabytes(here)} are here, " if here else ""
    console.print(
        f"{listing.repo} {listing.commit[:8]}: {len(listing.files)} files, {gigabytes(listing.total_bytes)}; "
        f"{present}{gigabytes(missing)} to download"
    )
    return missing


def _check_disk(fetcher: Fetcher, missing: int, result: int) -> None:
    """result: bytes that will be written among the quantized models besides."""
    free = free_disk(fetcher.folder)
    needed = missing + (result if on_same_disk(fetcher.folder, quantized_models()) else 0)
    if needed > free:
        raise DiskSpaceError(
            f"{fetcher.listing.repo} needs {gigabytes(needed)} more on the disk of {hub.cache_root()}, where "
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
        ThreadPoolExecutor(FILES_AT_ONCE) as workers,
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
