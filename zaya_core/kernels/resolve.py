"""Who computes the model's steps, and why: candidates are asked in order, and who declines says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from quant.kernels.abi import StaleLibraryError
from quant.kernels.resolve import CpuProducts, cpu_products, wanted_kernels
from zaya_core.errors import DeviceError, UsageError
from zaya_core.kernels.abi import steps_of
from zaya_core.kernels.card_choice import TRITON, choose_for, known_choice
from zaya_core.kernels.native import NativeSteps
from zaya_core.kernels.reference import ReferenceSteps
from zaya_core.kernels.sampling import NativeSampling
from zaya_core.machine.triton_support import use_cache
from zaya_core.model.steps import Declined, Steps
from zaya_core.model.weights import ModelWeights
from zaya_core.sampling.draw import Sampling
from zaya_core.sampling.reference import ReferenceSampling


@dataclass(frozen=True)
class ProductsInUse:
    """Products of one device. `is_fast` is False where a faster implementation exists and is missing or turned off, and
    where there is none yet."""

    name: str
    reason: str
    is_fast: bool


def products_in_use(device: torch.device | None = None) -> list[ProductsInUse]:
    """Those of the CPU and, if `device` is one, of a card.

    Raises UsageError where ZAYA_KERNELS asks for what is not there; DeviceError for a library of other sources.
    """
    chosen = _cpu_products()
    in_use = [ProductsInUse(f"CPU: {chosen.name}", chosen.reason, chosen.native is not None)]
    if device is not None and device.type != "cpu":
        on_card = known_choice(device)
        in_use.append(ProductsInUse(f"{device}: {on_card.name}", on_card.reason, on_card.uses_kernels))
    return in_use


def in_float32() -> bool:
    """Whether ZAYA_KERNELS asks for the float32 reference. Raises UsageError as `products_in_use`."""
    return _cpu_products().is_reference


def resolve_steps(weights: ModelWeights) -> Steps:
    """The first candidate that can compute these weights; its reason says why those before it declined.

    Raises UsageError as `products_in_use`.
    """
    declined: list[str] = []
    for candidate in _candidates(weights.layout.device):
        try:
            return candidate(weights, declined)
        except Declined as why:
            declined.append(str(why))
    raise AssertionError("the reference computes any model")


def resolve_sampling(device: torch.device) -> Sampling:
    """Who chooses tokens from logits on a device. Raises UsageError as `products_in_use`."""
    native = _cpu_products().native if device.type == "cpu" else None
    return ReferenceSampling() if native is None else NativeSampling(native)


def _triton(weights: ModelWeights, declined: Sequence[str]) -> Steps:
    choice = choose_for(weights.layout.device, weights.graphs)
    if not choice.uses_kernels:
        raise Declined(choice.reason)
    use_cache()
    from zaya_core.kernels.triton.steps import TritonSteps  # Triton is no dependency of a CPU

    return TritonSteps(weights, choice.reason, choice.graphs)


def _native(weights: ModelWeights, declined: Sequence[str]) -> Steps:
    chosen = _cpu_products()
    if chosen.native is None:
        raise Declined(chosen.reason)
    try:
        return NativeSteps(weights, chosen.native, chosen.reason)
    except Declined as why:
        raise Declined(f"native {chosen.native.name}: {why}") from None


def _reference(weights: ModelWeights, declined: Sequence[str]) -> Steps:
    name = "reference" if in_float32() else "torch"
    return ReferenceSteps(weights, resolve_sampling(weights.layout.device), name, "; ".join(declined))


_Candidate = Callable[[ModelWeights, Sequence[str]], Steps]


def _candidates(device: torch.device) -> tuple[_Candidate, ...]:
    """In the order in which they are asked; a new implementation is one more."""
    if device.type != "cpu":
        return _triton, _reference
    return (_triton, _native, _reference) if wanted_kernels() == TRITON else (_native, _reference)


def _cpu_products() -> CpuProducts:
    try:
        chosen = cpu_products()
        if chosen.native is not None:
            steps_of(chosen.native)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except StaleLibraryError as error:
        raise DeviceError(str(error)) from None
    return chosen
