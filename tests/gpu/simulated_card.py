"""Simulated graphics cards: real values, computed on the CPU, where devices are checked as on a card.

A tensor of a card is a subclass that says so and holds a tensor of the CPU. What a card refuses is refused: two devices
in one operation, and more memory than there is. Streams and copies that do not wait are not simulated.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest import mock

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from quant import card_products, compressed, nf4

aten = torch.ops.aten
HOST = torch.device("cpu")
_COPIES = ("_to_copy", "copy_", "lift_fresh", "lift_fresh_copy")
_INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_")
# What the program keeps for a device: a real card must not be given a simulated one's tensors.
_KEPT_BY_DEVICE = (compressed._levels, nf4._levels, card_products._accumulator_can_be_had)
_NEVER_FROM_HOST = ("gather", "index_select", "scatter", "embedding", "index_copy", "index_copy_", "index_add")


class MixedDevices(RuntimeError):
    """Tensors of two devices in one operation, which a card refuses."""


@dataclass(eq=False)
class Card:
    """One simulated card. Memory in bytes; `used` is what other programs have of it."""

    name: str = "Simulated RTX"
    total: int = 8 << 30
    used: int = 0
    capability: tuple[int, int] = (8, 9)
    is_integrated: bool = False
    gcn: str = ""
    held: int = 0
    peak: int = 0
    _storages: dict[int, int] = field(default_factory=dict)  # owners by address

    @property
    def free(self) -> int:
        return self.total - self.used - self.held

    @property
    def properties(self) -> SimpleNamespace:
        """What `torch.cuda.get_device_properties` says."""
        return SimpleNamespace(
            name=self.name, total_memory=self.total, major=self.capability[0], minor=self.capability[1],
            is_integrated=int(self.is_integrated), gcnArchName=self.gcn, multi_processor_count=20,
        )  # fmt: skip

    def take(self, tensor: SimulatedTensor) -> None:
        """Note that a tensor lives; raises OutOfMemoryError where there is no room."""
        storage = tensor.held.untyped_storage()
        address, nbytes = storage.data_ptr(), storage.nbytes()
        if address not in self._storages:
            if nbytes > self.free:
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {nbytes}; {self.free} are free.")
            self._storages[address] = 0
            self.held += nbytes
            self.peak = max(self.peak, self.held)
        self._storages[address] += 1
        weakref.finalize(tensor, self._release, address, nbytes)

    def _release(self, address: int, nbytes: int) -> None:
        self._storages[address] -= 1
        if not self._storages[address]:
            del self._storages[address]
            self.held -= nbytes


_cards: Sequence[Card] = ()


class SimulatedTensor(torch.Tensor):
    """State: `held`, the values; `card`, the index of the card that it is on."""

    held: torch.Tensor
    card: int

    @staticmethod
    def __new__(cls, held: torch.Tensor, card: int) -> SimulatedTensor:
        # C++ sees the CPU: a CUDA device would need what CPU builds of torch do not have.
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=HOST
        )

    def __init__(self, held: torch.Tensor, card: int):
        self.held, self.card = held, card
        _cards[card].take(self)

    device = property(lambda self: torch.device("cuda", self.card))
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def cpu(self, *args, **kwargs):
        return self.to("cpu")

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, **kwargs):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def data_ptr(self):
        return self.held.data_ptr()

    def __repr__(self, **kwargs):  # type: ignore[override]
        return f"SimulatedTensor({self.held}, card={self.card})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[override]
        return _computed(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Catches what makes tensors on a card."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


def _card_of(device: torch.device | str | int | None) -> int | None:
    """The index of a card, None for the host."""
    if isinstance(device, int) or device is None:
        return device or 0
    device = torch.device(device)
    return None if device.type == "cpu" else device.index or 0


def _computed(func, args, kwargs):
    """The operation on the held values; the result is on the card that the operation is for, if it is for one."""
    leaves = tree_leaves((args, kwargs))
    name = func._overloadpacket.__name__
    cards = {leaf.card for leaf in leaves if isinstance(leaf, SimulatedTensor)}
    asked = [_card_of(leaf) for leaf in leaves if isinstance(leaf, torch.device)]
    _expect_one_device(name, args, leaves, cards)
    card = asked[0] if asked else max(cards, default=None)
    plain_args, plain_kwargs = tree_map(_held, args), tree_map(_held, kwargs)
    if func is aten.mm.dtype:  # cards only
        result = torch.mm(plain_args[0].float(), plain_args[1].float())
    else:
        result = func(*plain_args, **plain_kwargs)
    if name.endswith("_") and name not in ("lift_fresh",) and func._schema.is_mutable:
        return args[0]
    if "out" in kwargs:
        return kwargs["out"]
    return result if card is None else tree_map(lambda one: _on_card(one, card), result)


def _expect_one_device(name, args, leaves, cards):
    plain = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, SimulatedTensor)]
    if len(cards) > 1 and name not in _COPIES:
        raise MixedDevices(f"{name}: tensors on cards {sorted(cards)}")
    if not cards or not plain or name in _COPIES:
        return
    if name in _INDEXED:  # a card takes indices of the host, which it copies
        values = args[2] if len(args) > 2 else None
        is_mixed = not isinstance(args[0], SimulatedTensor) or (
            isinstance(values, torch.Tensor) and not isinstance(values, SimulatedTensor) and values.dim() > 0
        )
    else:
        is_mixed = name in _NEVER_FROM_HOST or any(one.dim() for one in plain)
    if is_mixed:
        raise MixedDevices(f"{name}: Expected all tensors to be on the same device")


def _held(leaf):
    return leaf.held if isinstance(leaf, SimulatedTensor) else HOST if isinstance(leaf, torch.device) else leaf


def _on_card(result, card):
    is_new = isinstance(result, torch.Tensor) and not isinstance(result, SimulatedTensor)
    return SimulatedTensor(result, card) if is_new else result


_tensor, _to = torch.tensor, torch.Tensor.to


def _moved(self, *args, **kwargs):
    """`Tensor.to`, which in C++ would ask CUDA for the number of its device."""
    if args and isinstance(args[0], torch.Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
    own = self.card if isinstance(self, SimulatedTensor) else None
    if device is None or (card := _card_of(device)) == own:
        return self if dtype is None else _to(self, dtype)
    device = HOST if card is None else torch.device("cuda", card)
    return aten._to_copy(self, dtype=dtype, device=device, non_blocking=non_blocking)


def _made(data, *, dtype=None, device=None, **rest):
    """`torch.tensor`, which makes its values on the host and copies them."""
    made = _tensor(data, dtype=dtype, **rest)
    return made if device is None or _card_of(device) is None else made.to(device)


def _plain_attention(query, key, value, attn_mask=None, is_causal=False, enable_gqa=False):
    """What torch falls to where no fused attention takes the inputs: all scores in memory, in float32."""
    if enable_gqa:
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    scores = (query.float() * query.shape[-1] ** -0.5) @ key.float().transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return (scores.softmax(-1) @ value.float()).to(query.dtype)


def _without_gradients(mode):
    """In place of the inference mode: torch counts versions of its tensors in a way that subclasses do not have."""
    return torch.no_grad()


@contextmanager
def simulated_cards(*cards: Card) -> Iterator[tuple[Card, ...]]:
    """Within the block torch sees these cards and no others. Their attention is the plain one, the worst there is."""
    global _cards
    torch._C._ensureCUDADeviceGuardSet()

    def of(device):
        return cards[_card_of(device) or 0]

    says = {
        "is_available": lambda: bool(cards),
        "device_count": lambda: len(cards),
        "_lazy_init": lambda: None,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: of(device).name,
        "get_device_capability": lambda device=None: of(device).capability,
        "get_device_properties": lambda device=None: of(device).properties,
        "mem_get_info": lambda device=None: (of(device).free, of(device).total),
        "max_memory_allocated": lambda device=None: of(device).peak,
        "memory_allocated": lambda device=None: of(device).held,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "set_per_process_memory_fraction": lambda fraction, device=None: None,
    }
    with ExitStack() as stack:
        for name, does in says.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, does))
        stack.enter_context(mock.patch.object(torch, "tensor", _made))
        stack.enter_context(mock.patch.object(torch._C, "_InferenceMode", _without_gradients))
        stack.enter_context(mock.patch.object(torch.Tensor, "to", _moved))
        stack.enter_context(mock.patch.object(F, "scaled_dot_product_attention", _plain_attention))
        _cards = cards
        stack.callback(lambda: globals().update(_cards=()))
        for kept in _KEPT_BY_DEVICE:
            stack.callback(kept.cache_clear)
        stack.enter_context(_Factories())
        yield cards
