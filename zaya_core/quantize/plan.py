"""Which files of the source a quantization reads, and when, so that they can be fetched and deleted meanwhile.

The layers are read one after the other. What lies outside them (embedding, head, last norm, the scales in front of the
first layer) is read where calibration begins and for the last shard. So of a file whose layers are all done only those
few tensors are kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from zaya_core.quantize.job import QuantizationJob
from zaya_core.quantize.source_files import Rest, Step

_AT_ONCE = 2  # files that are read by a step or fetched for the next ones; more only where a layer lies in more


def reading_plan(job: QuantizationJob, begins_with: Iterable[str], layers_calibrated: int | None) -> list[Step]:
    """The steps that are still to be done.

    begins_with: the parameters that calibration reads before the first layer. layers_calibrated: None before that.
    """
    reads, last = [], len(job.shards) - 1
    for number, shard in enumerate(job.shards):
        if job.is_complete(shard):
            continue
        of_layers = set() if number == last else {number}
        of_rest = set(shard.parameters) if number == last else set()
        if job.is_calibrated(number):
            if layers_calibrated is None:
                of_rest |= set(begins_with)
                layers_calibrated = 0
            of_layers |= set(range(layers_calibrated, number))
            layers_calibrated = max(layers_calibrated, min(number + 1, last))
        files = frozenset().union(*(job.checkpoint.places_of(job.shards[one].parameters) for one in of_layers))
        reads.append((number, files, job.checkpoint.places_of(of_rest)))
    return [_step(reads, position) for position in range(len(reads))]


def _step(reads: Sequence[tuple[int, frozenset[str], Rest]], position: int) -> Step:
    number, layers, rest = reads[position]
    later = reads[position + 1 :]
    seen = frozenset().union(*(set(files) | set(some) for _, files, some in reads[: position + 1]))
    unseen = [file for _, files, _ in later for file in sorted(files - seen)]
    rest_later: dict[str, frozenset[str]] = defaultdict(frozenset)
    for _, _, some in later:
        for file, tensors in some.items():
            rest_later[file] |= tensors
    layers_later = frozenset().union(*(files for _, files, _ in later))
    ahead = frozenset(unseen[:1] if len(layers | set(rest)) < _AT_ONCE else ())
    return Step(number, layers, rest, ahead, layers_later, dict(rest_later))


def bytes_needed(job: QuantizationJob, steps: Iterable[Step]) -> int:
    """What the result's shards and the run's own files take at the fullest moment, beyond what they take now."""
    own = job.files.own_files()
    taken = {name: file.here for name, file in own.items()}
    reduced = {name for name, file in own.items() if file.is_reduced}
    written = most = 0
    for step in steps:
        brought = (step.layers | step.ahead | (set(step.rest) - reduced)) & set(own)
        taken.update({name: own[name].size for name in brought})
        reduced -= brought
        written += job.bytes_of(job.shards[step.number])
        most = max(most, written + sum(taken.values()))
        for name in set(own) - step.layers_later - reduced:
            kept = job.checkpoint.nbytes_of(step.rest_later.get(name, ())) if taken[name] else 0
            most = max(most, written + sum(taken.values()) + kept)  # until the rest has been copied
            taken[name] = kept
            if kept:
                reduced.add(name)
    return most - sum(file.here for file in own.values())
