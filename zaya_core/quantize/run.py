"""Quantize a model folder of either layout into another folder, layer by layer under a bounded memory.

All sizes are known from the configuration, so that shards are written in place and get their names when they are
complete: a run that was cut short goes on after the last complete shard, and the result has the same bytes. The files
of the source may arrive meanwhile, and be given up when their layers are done (`reading_plan`). Until the
end the folder is called `NAME.unfinished` and has no `config.json`, so that nothing takes it for a model.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from quant.assemble import quantize_matrix
from quant.compensation import InputStatistics
from zaya_core.checkpoint.checkpoint import Checkpoint, open_checkpoint
from zaya_core.checkpoint.writer import ShardWriter, write_small, writing
from zaya_core.errors import CheckpointError, DiskSpaceError, UsageError
from zaya_core.files.exclusive import held, lock_beside
from zaya_core.files.model_json import INDEX, UNFINISHED
from zaya_core.machine.format_library import expect_library
from zaya_core.quantize.calibration import BEGINS_WITH, CalibrationRun
from zaya_core.quantize.job import QuantizationJob, Shard
from zaya_core.quantize.plan import bytes_needed, reading_plan
from zaya_core.quantize.source_files import Step

_STATE = "calibration.state"
_COPIED = ("*.json", "*.jinja", "tokenizer.model", "LICENSE*")
_LARGEST_COPY = 256 << 20
_SPARE_BYTES = 50_000_000  # tokenizer, index, and what the file system needs itself


@dataclass(frozen=True)
class Progress:
    """How far a run has come, in weights of the source, and what it is at."""

    done: int
    total: int
    at: str


OnProgress = Callable[[Progress], None]


def quantize(job: QuantizationJob, on_progress: OnProgress) -> None:
    """Write the result, or go on with it.

    Raises UsageError where it exists, where another run is at it or an earlier one had other settings; DiskSpaceError
    where the disk is too small; CheckpointError for weights that are not finite; DeviceError without a library.
    """
    _expect_new(job)
    expect_library(job.settings.experts)
    with _alone(job):
        _expect_new(job)  # another run may have finished it just now
        _begin(job)
        if not job.files.own_files():  # else when it has come, for the last shard
            job.checkpoint.expect_equal_head()
        steps = steps_left(job)
        _expect_space(job, steps)
        _write_shards(job, steps, on_progress)
        _finish(job)


def steps_left(job: QuantizationJob) -> list[Step]:
    """What is still to be done, and what is read of the source for it."""
    return reading_plan(job, BEGINS_WITH, CalibrationRun.layers_in(job.unfinished / _STATE))


def _expect_new(job: QuantizationJob) -> None:
    if os.path.lexists(job.out):  # also a link that leads nowhere, which no folder can be put in place of
        raise UsageError(f"{job.out} exists already: delete it first, or give another --out FOLDER.")


@contextmanager
def _alone(job: QuantizationJob) -> Iterator[None]:
    """No other run writes the same folder."""
    with ExitStack() as locks:
        with writing(job.out):
            if not job.out.parent.exists():
                job.out.parent.mkdir(parents=True, exist_ok=True)
            locks.enter_context(held(lock_beside(job.out), f"writing {job.out}", "wait for it, or give another --out"))
        yield


def _begin(job: QuantizationJob) -> None:
    """Note what is being made, or see that an earlier run made the same."""
    folder = job.unfinished
    with writing(job.out):
        folder.mkdir(exist_ok=True)
    begun = next((path for name in (UNFINISHED, "config.json") if (path := folder / name).is_file()), None)
    if begun is None:
        if any(folder.glob("*.safetensors")):
            raise UsageError(f"{folder} holds something else: delete it, or give another --out FOLDER.")
        write_small(folder / UNFINISHED, job.config_json)
    elif begun.read_bytes() != job.config_json:
        raise UsageError(
            f"{folder} was begun with other settings or from another model: delete it, or give another --out FOLDER."
        )


def _expect_space(job: QuantizationJob, steps: Sequence[Step]) -> None:
    needed = bytes_needed(job, steps) + _state_bytes(job) + _SPARE_BYTES
    free = shutil.disk_usage(job.unfinished).free
    if needed > free:
        raise DiskSpaceError(
            f"{job.out} needs {needed / 1e9:.2f} GB more, but {free / 1e9:.2f} GB are free on that disk: free some "
            "space, or give another --out FOLDER."
        )


def _state_bytes(job: QuantizationJob) -> int:
    """Bytes of the saved states of calibration, of which there are two while one replaces the other."""
    tokens = 0 if job.settings.calibration is None else job.settings.calibration.ids.numel()
    return 2 * 4 * tokens * (job.config.hidden_size + job.config.router_hidden_size)


def _write_shards(job: QuantizationJob, steps: Sequence[Step], on_progress: OnProgress) -> None:
    total = sum(map(job.weights_of, job.shards))
    done = total - sum(job.weights_of(job.shards[step.number]) for step in steps)
    inputs = _Inputs(job)
    for step in steps:
        shard, is_last = job.shards[step.number], step.number == len(job.shards) - 1
        at = "embedding and head" if is_last else f"layer {step.number + 1} of {len(job.shards) - 1}"
        on_progress(Progress(done, total, at))
        job.files.bring(step)
        job.reopen()
        if is_last:
            job.checkpoint.expect_equal_head()
        _write_shard(job, shard, inputs.of_shard(step.number, job.checkpoint))
        inputs.save()
        job.files.give_up(step)
        job.reopen()
        done += job.weights_of(shard)
    on_progress(Progress(done, total, "done"))


def _write_shard(job: QuantizationJob, shard: Shard, inputs: dict[str, list[InputStatistics]]) -> None:
    with ShardWriter(job.unfinished / shard.file, shard.tensors) as writer:
        for name in shard.parameters:
            if job.formats.format_of(name) is None:
                writer.write(name, _expected_finite(job, name))
            else:
                _write_packed(job, writer, name, inputs.get(name))


def _expected_finite(job: QuantizationJob, name: str) -> Tensor:
    """A parameter that stays as it is. Raises CheckpointError."""
    tensor = job.checkpoint.tensor(name)
    if not torch.isfinite(tensor).all():
        raise CheckpointError(f"{job.source}: {name} has values that are not finite: download the files again.")
    return tensor


def _write_packed(job: QuantizationJob, writer: ShardWriter, name: str, inputs: list[InputStatistics] | None) -> None:
    """One matrix at a time, so that memory holds one."""
    kind = job.formats.format_of(name)
    assert kind is not None
    is_stack = len(job.checkpoint.parameters[name].shape) == 3
    matrices = job.checkpoint.experts(name) if is_stack else [job.checkpoint.tensor(name)]
    for number, weight in enumerate(matrices):
        try:
            tensors = quantize_matrix(kind, weight, None if inputs is None else inputs[number])
        except ValueError as error:
            raise CheckpointError(f"{job.source}: {name} cannot be quantized: {error}.") from None
        for suffix, tensor in tensors.items():
            writer.write(f"{name}.{suffix}", tensor, number if is_stack else None)


class _Inputs:
    """The inputs of each shard's matrices, from calibration; its state outlives a run that is cut short."""

    def __init__(self, job: QuantizationJob):
        self.job = job
        self.path = job.unfinished / _STATE
        self.run: CalibrationRun | None = None

    def of_shard(self, number: int, checkpoint: Checkpoint) -> dict[str, list[InputStatistics]]:
        """By parameter name, one for each expert of a stack; empty without calibration."""
        is_last = number == self.job.config.num_hidden_layers
        if not self.job.is_calibrated(number):
            return {}
        run = self._advanced_to(number, checkpoint)
        if not is_last:
            return run.advance(checkpoint, self.job.with_dense)
        head = "model.embed_tokens.weight" if self.job.config.tie_word_embeddings else "lm_head.weight"
        return {head: [run.head_inputs(checkpoint)]}

    def _advanced_to(self, layer: int, checkpoint: Checkpoint) -> CalibrationRun:
        text = self.job.settings.calibration
        assert text is not None  # of a calibrated shard
        if self.run is None and self.path.is_file():
            self.run = CalibrationRun.resume(self.job.config, self.path)
        if self.run is None:
            self.run = CalibrationRun.begin(self.job.config, checkpoint, text.ids)
        while self.run.layers_done < layer:  # a shard was complete, and the state after it was not saved
            self.run.advance(checkpoint, self.job.with_dense)
        return self.run

    def save(self) -> None:
        """Keep the state for a run that goes on."""
        if self.run is not None:
            with writing(self.path):
                self.run.save(self.path)


def _finish(job: QuantizationJob) -> None:
    """Everything that is no weights; the last step makes the folder a model."""
    folder = job.unfinished
    for state in folder.glob(f"{_STATE}*"):  # and what is left of one whose writing was killed
        state.unlink()
    _copy_small_files(job.source, folder)
    write_small(folder / INDEX, _index_json(job))
    if (folder / UNFINISHED).is_file():
        (folder / UNFINISHED).replace(folder / "config.json")
    open_checkpoint(folder)
    with writing(job.out):
        folder.rename(job.out)


def _copy_small_files(source: Path, folder: Path) -> None:
    for path in sorted(path for pattern in _COPIED for path in source.glob(pattern)):
        is_other = path.name != "config.json" and not path.name.endswith(".index.json")
        if is_other and path.is_file() and path.stat().st_size <= _LARGEST_COPY:
            write_small(folder / path.name, path.read_bytes())


def _index_json(job: QuantizationJob) -> bytes:
    weight_map = {name: shard.file for shard in job.shards for name in shard.tensors}
    total = sum(tensor.nbytes for shard in job.shards for tensor in shard.tensors.values())
    return (json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n").encode()
