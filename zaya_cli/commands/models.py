"""`zaya models`: list, remove and verify what is on this machine."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from zaya_cli.failures import INTERRUPTED, Interrupted
from zaya_cli.flags.options import InfoKind
from zaya_cli.machine.hardware import Memory, memory_of
from zaya_cli.models import hub
from zaya_cli.models.choice import Choice, choose_for
from zaya_cli.models.download import checksum_of
from zaya_cli.models.fit_report import judged
from zaya_cli.models.inventory import PresentModel, present_models
from zaya_cli.models.locks import removing
from zaya_cli.sizes import gigabytes
from zaya_cli.terminal.output import stdout_console, write_json, write_note
from zaya_cli.terminal.visible import one_line
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.errors import CheckpointError, ModelNotFoundError, UsageError, ZayaError
from zaya_core.machine.memory_fit import MemoryNeed, Verdict

_CHECKSUM_LENGTHS = (40, 64)


def list_models(format: InfoKind) -> None:
    """Print every model with its format, size, memory and place, and the one that is taken when none is named."""
    models = present_models()
    memory = memory_of("auto")
    try:
        choice: Choice | None = choose_for("auto", models)
        reason = choice.reason if choice else ""
    except ZayaError as error:
        choice, reason = None, str(error)
    if format == "json":
        write_json([_as_json(model, memory, choice) for model in models])
        return
    console = stdout_console()
    for line in _lines(models, memory, choice):
        console.print(one_line(line))
    console.print()
    console.print(f"Without --model: {choice.model.name} ({reason})." if choice else reason)


def _lines(models: Sequence[PresentModel], memory: Memory, choice: Choice | None) -> list[str]:
    width = max([len(model.name) for model in models], default=0) + 2
    lines = []
    for model in models:
        mark = "*" if choice is not None and choice.model is model else " "
        state = model.problem or _memory_words(model, memory)
        lines.append(f"{mark} {model.name:<{width}}{model.format:<20}{gigabytes(model.nbytes):>10}  {state}")
    return lines


def _memory_words(model: PresentModel, memory: Memory) -> str:
    need, verdict = _judged(model, memory)
    return f"needs {gigabytes(need.total)} of memory: {verdict}"


def _judged(model: PresentModel, memory: Memory) -> tuple[MemoryNeed, Verdict]:
    assert model.config is not None  # it has no problem
    return judged(model.config, model.weight_bytes, memory)


def _as_json(model: PresentModel, memory: Memory, choice: Choice | None) -> dict[str, Any]:
    need, verdict = _judged(model, memory) if model.problem is None else (None, None)
    return {
        "name": model.name,
        "folder": str(model.folder),
        "place": model.place,
        "format": model.format,
        "bytes": model.nbytes,
        "weight_bytes": model.weight_bytes,
        "memory_bytes": need.total if need else None,
        "verdict": verdict,
        "is_default": choice is not None and choice.model is model,
        "problem": model.problem,
    }


def remove_model(name: str, yes: bool, dry_run: bool) -> None:
    """Delete a model from the hub cache or the quantized folders, after asking.

    Raises UsageError for a bundled model, where nobody can be asked, and where another process downloads, makes or
    quantizes the model; ModelNotFoundError for an unknown name.
    """
    model = _named(name)
    if model.place == "bundled":
        raise UsageError(f"{name} is part of the program and cannot be removed.")
    deletion = _deletion(model)
    write_note(f"{model.name}: {gigabytes(deletion.nbytes)} in {deletion.folder}")
    if dry_run:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"This is not a terminal, so that nobody can be asked: add --yes to remove {name}.")
        _confirm()
    try:
        with removing(model):
            deletion.execute()
    except FileNotFoundError:
        raise ModelNotFoundError(f"{name} is gone: another program has removed it meanwhile.") from None
    except OSError as error:
        raise UsageError(f"{error.filename or deletion.folder} cannot be removed ({error.strerror}).") from None
    write_note(f"{gigabytes(deletion.nbytes)} are free again.")


def _confirm() -> None:
    """Raises Interrupted where the person does not want it: with 0 after a no, with 130 after Ctrl-C or Ctrl-D."""
    try:
        code = None if typer.confirm("Remove it?", err=True) else 0
    except typer.Abort:
        write_note("")
        code = INTERRUPTED
    if code is not None:
        write_note("Nothing was removed.")
        raise Interrupted(code)


@dataclass(frozen=True)
class _Deletion:
    """A folder to delete, or some revisions of a cached repository by huggingface_hub's own plan."""

    folder: Path
    nbytes: int
    strategy: Any = None

    def execute(self) -> None:
        if self.strategy is not None:
            self.strategy.execute()
            return
        doomed = self.folder.with_name(f".removed-{self.folder.name}")  # no half a model is ever seen under its name
        if doomed.is_dir():  # of a removal that was killed
            shutil.rmtree(doomed)
        os.replace(self.folder, doomed)
        if doomed.is_symlink():
            doomed.unlink()
        else:
            shutil.rmtree(doomed)


def _deletion(model: PresentModel) -> _Deletion:
    if model.place != "hub":
        return _Deletion(model.folder, ModelFolder(model.folder).nbytes)
    repo, _, revision = model.name.partition("@")
    folder = hub.repo_folder(repo)
    if not revision:
        return _Deletion(folder, ModelFolder(folder).nbytes)
    from huggingface_hub import scan_cache_dir

    strategy = scan_cache_dir().delete_revisions(model.folder.name)
    return _Deletion(model.folder, strategy.expected_freed_size, strategy)


def _named(name: str) -> PresentModel:
    for model in present_models():
        if model.name == name:
            return model
    raise ModelNotFoundError(f"There is no model {name} on this machine: `zaya models` lists those that are.")


def verify_models(names: Sequence[str], remove_damaged: bool) -> None:
    """Compare checksums of downloaded files; of other models, check the headers. One line for each on stdout.

    Raises CheckpointError if any is damaged.
    """
    models = [_named(name) for name in names] or [m for m in present_models() if m.place != "bundled"]
    if not models:
        raise ModelNotFoundError("There is no model on this machine to verify: `zaya pull` downloads one.")
    damaged, console = [], stdout_console()
    for model in models:
        bad = _damaged_files(model)
        damaged += [(model, path) for path in bad]
        console.print(one_line(f"{model.name}: {_verdict(model, bad)}"))
        if bad and remove_damaged:
            with removing(model):
                _remove_files(bad)
    if damaged:
        advice = " and ".join(sorted({f"`zaya pull {model.name.partition('@')[0]}`" for model, _ in damaged}))
        first = "" if remove_damaged else "`zaya models verify --remove-damaged`, then "
        raise CheckpointError(f"{len(damaged)} files are damaged: type {first}{advice} to fetch them again.")


def _remove_files(paths: Sequence[Path]) -> None:
    """Links of a cache with what they lead to."""
    for path in paths:
        path.resolve().unlink()
        path.unlink(missing_ok=True)


def _damaged_files(model: PresentModel) -> list[Path]:
    return [
        path
        for path in sorted(model.folder.rglob("*"))
        if path.is_file() and (expected := _expected_checksum(path)) and checksum_of(path, expected) != expected
    ]


def _expected_checksum(path: Path) -> str | None:
    """The cache of huggingface_hub names a file's content by its checksum; None for files that lie elsewhere."""
    if not path.is_symlink():
        return None
    name = Path(os.readlink(path)).name
    return name if len(name) in _CHECKSUM_LENGTHS and set(name) <= set("0123456789abcdef") else None


def _verdict(model: PresentModel, bad: Sequence[Path]) -> str:
    if bad:
        return f"damaged: {', '.join(path.name for path in bad)}"
    if model.problem is not None:
        return model.problem
    files = [path for path in model.folder.rglob("*") if path.is_file()]
    checked = sum(_expected_checksum(path) is not None for path in files)
    if checked:
        return f"intact ({checked} of {len(files)} files have checksums, and all of these agree)"
    from zaya_core.checkpoint.checkpoint import open_checkpoint

    open_checkpoint(model.folder)
    return "headers are intact (no checksums are kept for this model)"
