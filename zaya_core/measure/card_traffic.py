"""What a program asks of a card: launches, synchronisations and copies, each with the line that asks for it.

Every operation that computes counts as one launch; a few, such as sort and topk, are several on a card. So does each of
zaya's own kernels, and a recorded graph that is replayed.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ROOMS = tuple(str(Path(__file__).parents[2] / room) for room in ("quant", "zaya_core", "zaya_cli"))
_OWN = str(Path(__file__))
_KERNELS = "quant.kernels.triton.launch"
# Operations for which nothing is launched: they read a value, or describe memory or ask for some.
_READ_BY_THE_HOST = frozenset(("_local_scalar_dense", "equal", "is_nonzero", "item"))
_MEMORY = frozenset(("empty", "empty_strided", "lift_fresh", "new_empty", "new_empty_strided", "resize_", "set_"))
_FREE = _READ_BY_THE_HOST | _MEMORY | {"_unsafe_view", "alias", "detach"}
_SHAPED_BY_VALUES = frozenset(("_unique2", "bincount", "masked_select", "nonzero", "unique_consecutive", "unique_dim"))


class CardTraffic(TorchDispatchMode):
    """Counts while it is entered. State: `launches`, `synchronisations`, `copies`, by (line of the program, operation).

    A copy from the card is a synchronisation, too. Copies to it count as copies only: small ones do not wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[tuple[str, str]] = Counter()
        self.synchronisations: Counter[tuple[str, str]] = Counter()
        self.copies: Counter[tuple[str, str]] = Counter()
        self._watching = ExitStack()

    def __enter__(self) -> Any:
        kernels = sys.modules.get(_KERNELS)  # where a model on a card computes by them
        if kernels is not None:
            self._watching.enter_context(kernels.watched(self._note_kernel))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._watching.close()
        super().__exit__(*error)

    def _note_kernel(self, name: str) -> None:
        self.launches[program_line(), name] += 1

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._note(func, args, kwargs or {}, result)
        return result

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        given = [_is_on_card(one) for one in _tensors((args, dict(kwargs)))]
        made = [_is_on_card(one) for one in _tensors(result)]
        if not any(given) and not any(made):
            return
        name, line = func._overloadpacket.__name__, program_line()
        if name in ("_to_copy", "copy_") and given[-1] != made[0]:
            self.copies[line, "to card" if made[0] else "to host"] += 1
            is_waited_for = not (True in args[2:] if name == "copy_" else kwargs.get("non_blocking"))
            self.synchronisations[line, "copy"] += given[-1] and is_waited_for
        elif name not in _FREE and not func.is_view:
            self.launches[line, name] += 1
        if _waits(name, args):
            self.synchronisations[line, name] += 1
        elif name in ("index", "index_put", "index_put_") and not all(map(_is_on_card, _tensors(args[1]))):
            self.copies[line, "index to card"] += 1


def _waits(name: str, args: tuple[Any, ...]) -> bool:
    """Whether the host must know a value before it can go on."""
    if name in _READ_BY_THE_HOST or name in _SHAPED_BY_VALUES:
        return True
    if name == "repeat_interleave":
        return isinstance(args[-1], Tensor)
    is_index = name in ("index", "index_put", "index_put_")
    return is_index and any(one.dtype in (torch.bool, torch.uint8) for one in _tensors(args[1]))


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (one for one in tree_leaves(tree) if isinstance(one, Tensor))


def _is_on_card(tensor: Tensor) -> bool:
    return tensor.device.type not in ("cpu", "meta")


def program_line() -> str:
    """Where the program asks for what is being done: "zaya_core/model/cca.py:92"; "" where none of its lines does."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_ROOMS) and file != _OWN:
            return f"{Path(file).relative_to(Path(__file__).parents[2]).as_posix()}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""
