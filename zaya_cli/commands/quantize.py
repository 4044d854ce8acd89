"""`zaya quantize`: make a smaller folder of a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zaya_cli.flags.quantize import QuantizeCommand
from zaya_cli.machine.threads import expect_threads, threads_to_use
from zaya_cli.models.folder import DEFAULT_REPO, expect_openable, find_model_folder
from zaya_cli.models.locks import reading
from zaya_cli.models.quantized_folder import SourceName, default_out, source_name
from zaya_cli.sizes import duration, gibibytes, gigabytes
from zaya_cli.terminal.output import draws, stderr_console, write_answer
from zaya_cli.user_files import from_home
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.config.weight_formats import FLOAT, is_fitted

if TYPE_CHECKING:
    from rich.console import Console

    from zaya_core.quantize import job as jobs
    from zaya_core.quantize.calibration_text import CalibrationText
    from zaya_core.quantize.job import QuantizationJob
    from zaya_core.quantize.run import Progress
    from zaya_core.quantize.source_files import SourceFiles

NO_CALIBRATION = "none"


def quantize(settings: QuantizeCommand) -> None:
    """Write the folder, print its path on stdout.

    With --verify and a folder that exists already, only compare. Raises the errors of `zaya_core.quantize.run`.
    """
    expect_threads(settings.threads)
    source = find_model_folder(settings.model or DEFAULT_REPO)
    name = source_name(settings.model, source)
    out = expect_openable(from_home(settings.out or default_out(name, settings.format, settings.dense)))
    console = stderr_console("auto")
    if not (settings.verify and out.exists()):
        run_job(settings, quantization_job(settings, source, name, out), console)
    if settings.verify:
        _verify(source, out, console)
    write_answer(f"{out}\n")


def quantization_job(
    settings: QuantizeCommand, source: Path, name: SourceName, out: Path, files: SourceFiles | None = None
) -> QuantizationJob:
    """What `run_job` does. See `zaya_core.quantize.job` for the errors, and for `files`."""
    from zaya_core.quantize.job import QuantizationJob

    return QuantizationJob(source, out, _settings(settings, source, name), files)


def run_job(settings: QuantizeCommand, job: QuantizationJob, console: Console) -> None:
    """Make the folder with progress. Raises the errors of `zaya_core.quantize.run`, KeyboardInterrupt with a note."""
    import torch

    from zaya_core.kernels.resolve import products_in_use
    from zaya_core.machine.memory import keep_freed_memory, peak_memory_bytes
    from zaya_core.quantize.run import quantize as run

    products_in_use()  # what ZAYA_KERNELS asks for must be there
    keep_freed_memory()
    torch.set_num_threads(threads_to_use(settings.threads))
    started = time.perf_counter()
    with reading(job.source), _progress(console, settings.quiet) as show:
        try:
            run(job, show)
        except KeyboardInterrupt:
            if not settings.quiet:
                console.print("Stopped. The same command goes on from here.")
            raise
    if not settings.quiet:
        sizes = f"{gigabytes(ModelFolder(job.out).nbytes)} instead of {gigabytes(_source_bytes(job))}"
        peak = f"peak memory {gibibytes(peak_memory_bytes(torch.device('cpu')))}"
        console.print(f"{sizes} · {duration(time.perf_counter() - started)} · {peak}")


def _settings(settings: QuantizeCommand, source: Path, name: SourceName) -> jobs.QuantizeSettings:
    from zaya_core.quantize import job as jobs

    can_be_fitted = is_fitted(settings.format) or is_fitted(settings.dense)
    uses_calibration = can_be_fitted and settings.calibrate != NO_CALIBRATION
    return jobs.QuantizeSettings(
        experts=settings.format,
        dense=None if settings.dense == FLOAT else settings.dense,
        calibration=_calibration(settings, source) if uses_calibration else None,
        source_name=name.name,
        source_revision=name.revision,
    )


def _calibration(settings: QuantizeCommand, source: Path) -> CalibrationText:
    from zaya_core.quantize.calibration_text import read_calibration_text
    from zaya_core.text.tokenizer import load_tokenizer

    path = None if settings.calibrate is None else from_home(settings.calibrate)
    return read_calibration_text(path, load_tokenizer(source))


def _source_bytes(job: QuantizationJob) -> int:
    return sum(job.checkpoint.stored_bytes(name) for name in job.checkpoint.parameters)


@contextmanager
def _progress(console: Console, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar with the time left on a terminal, a line for every tenth elsewhere."""
    if quiet:
        yield lambda progress: None
    elif draws(console):
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=console, transient=True, speed_estimate_period=600) as bar:
            task = bar.add_task("", total=None)
            yield lambda progress: bar.update(
                task, description=progress.at, completed=progress.done, total=progress.total
            )
    else:
        yield _TenthLines(console)


class _TenthLines:
    """One line whenever another tenth of the work is done."""

    def __init__(self, console: Console):
        self.console = console
        self.started = time.perf_counter()
        self.first: int | None = None
        self.shown = -1

    def __call__(self, progress: Progress) -> None:
        self.first = progress.done if self.first is None else self.first
        tenth = 10 * progress.done // progress.total
        if tenth <= self.shown:
            return
        self.shown = tenth
        left = ""
        if progress.total > progress.done > self.first:
            rate = (progress.done - self.first) / (time.perf_counter() - self.started)
            left = f", {duration((progress.total - progress.done) / rate)} left"
        self.console.print(f"{10 * tenth} %: {progress.at}{left}")


def _verify(source: Path, out: Path, console: Console) -> None:
    from zaya_core.quantize.verify import verify

    console.print(f"{'matrix':<46}{'format':>8}{'relative error':>16}{'largest error':>15}{'largest weight':>16}")
    for one in verify(source, out):
        figures = f"{one.relative:>16.3%}{one.largest:>15.3g}{one.largest_weight:>16.3g}"
        console.print(f"{one.name:<46}{one.kind:>8}{figures}")
    console.print(f"{out} fits its source {source}.")
