"""What the stored numbers say by themselves: finite everywhere, no matrix all the same, small ones in known ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from zaya_core.checkpoint.checkpoint import Checkpoint
from zaya_core.checkpoint.names import Parameter
from zaya_core.measure.checkup.finding import Finding
from zaya_core.measure.checkup.golden import Golden, Known

_SHOWN = 3  # names of tensors in a sentence


def check_tensors(
    checkpoint: Checkpoint, known: Known, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Finding]:
    """Look at every number once. on_progress: (parameters done, of how many)."""
    broken: list[str] = []
    constant: list[str] = []
    odd: list[str] = []
    for number, parameter in enumerate(checkpoint.parameters.values(), 1):
        for name, tensor in _matrices(checkpoint, parameter):
            low, high = (float(value) for value in tensor.aminmax())
            usual = _range_of(known.judge, name)
            if not (abs(low) < float("inf") and abs(high) < float("inf")):  # NaN is less than nothing
                broken.append(name)
            elif low == high and _says_something(name, parameter, low):
                constant.append(f"{name} (all {low:g})")
            elif usual is not None and not (usual[0] <= low and high <= usual[1]):
                odd.append(f"{name} ({low:.3g} to {high:.3g}; {usual[0]:.3g} to {usual[1]:.3g} is usual)")
        on_progress(number, len(checkpoint.parameters))
    yield from _findings(broken, constant, odd, known)


def _says_something(name: str, parameter: Parameter, value: float) -> bool:
    """Whether one number for all is odd: not in vectors, and in scales only a zero."""
    return len(parameter.shape) > 1 and (value == 0 or not name.endswith(".scales"))


def _matrices(checkpoint: Checkpoint, parameter: Parameter) -> Iterator[tuple[str, Tensor]]:
    """What is stored of a parameter; a stack of experts one by one, so that a lost one is seen."""
    name = parameter.name
    if name in checkpoint.packed:
        for suffix, stored in checkpoint.packed_tensors(name).items():
            parts = stored.unbind() if len(parameter.shape) == 3 and ".experts." in name else [stored]
            yield from ((f"{name}{_number(parts, at)}.{suffix}", _comparable(one)) for at, one in enumerate(parts))
    elif ".experts." in name:
        parts = checkpoint.experts(name)
        yield from ((f"{name}{_number(parts, at)}", one) for at, one in enumerate(parts))
    else:
        yield name, checkpoint.tensor(name)


def _number(parts: list[Tensor] | tuple[Tensor, ...], at: int) -> str:
    return f"[{at}]" if len(parts) > 1 else ""


def _comparable(stored: Tensor) -> Tensor:
    """Floats of 8 bits have no smallest and largest in torch."""
    return stored.float() if stored.is_floating_point() and stored.itemsize == 1 else stored


def _range_of(golden: Golden | None, name: str) -> tuple[float, float] | None:
    ranges = {} if golden is None else golden.ranges
    return next((usual for end, usual in ranges.items() if name.endswith(end)), None)


def _findings(broken: list[str], constant: list[str], odd: list[str], known: Known) -> Iterator[Finding]:
    if broken:
        text = f"values that are not finite in {_listed(broken)}: the files are damaged, download them again"
        yield Finding("numbers", text, "problem")
    if constant:
        text = f"nothing but one number in {_listed(constant)}: no training leaves that"
        yield Finding("numbers", text, "problem" if known.is_named else "note")
    if odd:
        yield Finding("numbers", f"unusual for {known.golden and known.golden.name}: {_listed(odd)}", "note")
    if not (broken or constant or odd):
        ranges = "; small ones in their known ranges" if known.judge is not None and known.judge.ranges else ""
        yield Finding("numbers", f"all finite, no matrix constant{ranges}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} others" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
