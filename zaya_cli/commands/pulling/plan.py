"""What `zaya pull` would do: said, and found possible, before anything is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from zaya_cli.flags.pull import PullSettings
from zaya_cli.flags.quantize import QuantizeCommand
from zaya_cli.machine.hardware import Memory, free_disk, memory_of, on_same_disk
from zaya_cli.models import hub
from zaya_cli.models.download import Fetcher
from zaya_cli.models.fit_report import FormatFit, advice, fit_of, fits_of, table_of
from zaya_cli.models.folder import DEFAULT_REPO
from zaya_cli.models.found import unchecked_settings
from zaya_cli.models.quantized_folder import SourceName, default_out
from zaya_cli.sizes import gigabytes
from zaya_cli.terminal.output import stderr_console
from zaya_cli.terminal.visible import one_line
from zaya_cli.user_files import quantized_models
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.parse import parse_config
from zaya_core.errors import ConfigError, DiskSpaceError, MemoryFitError, ModelNotFoundError, UsageError

_CONFIG = "config.json"


@dataclass(frozen=True)
class Plan:
    """missing: bytes to fetch. result: bytes that are written among the quantized models. fits: into the memory."""

    fetcher: Fetcher
    missing: int
    result: int
    fits: list[FormatFit]
    memory: Memory

    def expect_possible(self, settings: PullSettings) -> None:
        """Raises MemoryFitError for a model that no format makes fit, DiskSpaceError."""
        if not settings.force and self.fits and all(fit.verdict == "does not fit" for fit in self.fits):
            raise MemoryFitError(
                f"{self.fetcher.listing.repo} does not fit into this machine's memory: "
                f"{advice(self.fits, self.memory)}; --force downloads it anyway."
            )
        if not settings.discards:  # else it is known, and checked, when the files have been looked at
            self._expect_disk()

    def _expect_disk(self) -> None:
        folder = self.fetcher.folder
        free = free_disk(folder)
        needed = self.missing + (self.result if on_same_disk(folder, quantized_models()) else 0)
        if needed > free:
            raise DiskSpaceError(
                f"{self.fetcher.listing.repo} needs {gigabytes(needed)} more on the disk of {hub.cache_root()}, where "
                f"{gigabytes(free)} are free: free some space, or set HF_HOME to a folder on another disk."
            )


def announced_plan(fetcher: Fetcher, settings: PullSettings, console: Console) -> Plan:
    """Say what is here, what is missing, and whether the model fits. Raises ConfigError, UsageError, NetworkError."""
    listing = fetcher.listing
    config = _read_remote_config(listing, settings)
    missing = _announce(console, fetcher, listing.files if settings.dry_run else ())
    if not settings.discards:
        console.print(f"disk     {gigabytes(free_disk(fetcher.folder))} free in {hub.cache_root()}")
    memory = memory_of(settings.device)
    fits, result = fits_of(config, listing.weight_bytes, memory), 0
    if (wanted := settings.quantization) is not None:
        config = _expect_quantizable(config, listing.repo)
        fits = [fit_of(config, wanted.format, wanted.dense, memory)]  # type: ignore[arg-type]
        result = fits[0].need.weights
        _announce_quantized(console, wanted, listing, missing, result, settings.discards)
    for line in table_of(fits, memory):
        console.print(line)
    return Plan(fetcher, missing, result, fits, memory)


def expect_model(listing: hub.Listing) -> None:
    """Raises ModelNotFoundError for a repository without a configuration or weights."""
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
        raw = unchecked_settings(path, ConfigError)
        try:
            return parse_config(raw)
        except ConfigError as error:
            if raw.get("model_type") != "zaya" and not settings.force:
                raise
            stderr_console(settings.color).print(f"zaya: this version cannot compute {listing.repo} ({error})")
            return None


def _expect_quantizable(config: ModelConfig | None, repo: str) -> ModelConfig:
    if config is None or config.quantization is not None:
        raise UsageError(f"{repo} is quantized already, or cannot be: leave --quant out.")
    return config


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


def _announce_quantized(
    console: Console, wanted: QuantizeCommand, listing: hub.Listing, missing: int, result: int, discards: bool
) -> None:
    out = default_out(SourceName(listing.repo, listing.commit), wanted.format, wanted.dense)
    largest = sorted(file.size for file in listing.files)[-2:]
    at_once = min(sum(largest), missing) if discards else missing
    what = "with two of the original files at a time" if discards else "with the originals"
    console.print(f"disk     {gigabytes(free_disk(out))} free in {out.parent}")
    console.print(f"{wanted.format:<9}{gigabytes(result)}; {what} about {gigabytes(result + at_once)} of disk")
