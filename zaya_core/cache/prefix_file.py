"""Kept prefixes in a safetensors file: a conversation can go on in another process without reading it all again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.blocks import BlockPool, BlockTable
from zaya_core.cache.cache import Snapshot
from zaya_core.cache.prefixes import Prefix
from zaya_core.cache.states import CCATensors, RowStates
from zaya_core.errors import CheckpointError

_FORMAT = {"format": "zaya prefixes", "version": "2"}  # 1 had no checksum
_CHECKSUM = "checksum"


def save_prefixes(path: Path, prefixes: Sequence[Prefix], model: str) -> None:
    """Write prefixes of which each begins the next; keys and values are stored once, those of the longest.

    model: the weights they belong to, see `fingerprint`. Tensors: `ids` (S), `lengths` (n), `keys` and `values`
    (L, S, G, K), with int8 also `key_scales` and `value_scales` (L, S, G), `conv_tail` (n, L, W, C), `delayed`
    (n, L, G*K/2). A checksum of all this and of the metadata is part of the latter. Raises OSError; what is then at
    `path` is no file that `load_prefixes` accepts.
    """
    deepest = prefixes[-1]
    parked = [prefix.snapshot.states.park(prefix.snapshot.cca) for prefix in prefixes]
    tensors = {
        **deepest.snapshot.tables[0].read(len(deepest.ids)),
        "ids": torch.tensor(deepest.ids),
        "lengths": torch.tensor([len(prefix.ids) for prefix in prefixes]),
        "conv_tail": torch.stack([cca.conv_tail[:, 0] for cca in parked]),
        "delayed": torch.stack([cca.delayed[:, 0] for cca in parked]),
    }
    stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {**_FORMAT, "model": model}
    try:
        save_file(stored, path, {**metadata, _CHECKSUM: _checksum(metadata, stored)})
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def load_prefixes(path: Path, states: RowStates, model: str) -> list[Prefix]:
    """The prefixes of a file, in the order in which they were saved, their state with `states`.

    Raises CheckpointError for a file that is damaged, belongs to other weights or has keys and values in another form;
    MemoryFitError; OSError.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            checksum = metadata.pop(_CHECKSUM, None)
            if metadata != {**_FORMAT, "model": model}:
                raise CheckpointError(f"{path} belongs to other weights, or to another version of zaya.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        is_whole = checksum == _checksum(metadata, tensors)
    except (SafetensorError, RuntimeError, ValueError, TypeError):  # the last three: of a dtype that torch has not
        is_whole = False
    if not is_whole:
        raise CheckpointError(f"{path} is damaged.")
    _check(path, tensors, states.pool)
    return _prefixes(tensors, states)


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Of the metadata, and of names, dtypes, shapes and bytes of the tensors."""
    digest = hashlib.blake2b(repr(sorted(metadata.items())).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check(path: Path, tensors: dict[str, Tensor], pool: BlockPool) -> None:
    layout = pool.layout
    count, length = (len(tensors[name]) if name in tensors else 0 for name in ("lengths", "ids"))
    per_prefix = (count, layout.num_layers)
    expected = {
        "ids": ((length,), torch.int64),
        "lengths": ((count,), torch.int64),
        **pool.rows_of(length),
        "conv_tail": ((*per_prefix, layout.conv_tail, layout.cca_channels), layout.dtype),
        "delayed": ((*per_prefix, layout.num_key_value_heads * layout.head_dim // 2), layout.dtype),
    }
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    if (
        found != expected
        or not count
        or not bool((tensors["lengths"] > 0).all() and (tensors["lengths"] <= length).all())
    ):
        raise CheckpointError(
            f"{path} does not fit this model: shapes, dtype, --kv or lengths are not those of its cache."
        )


@torch.inference_mode()
def _prefixes(tensors: dict[str, Tensor], states: RowStates) -> list[Prefix]:
    whole = BlockTable.written(states.pool, tensors)
    ids = tensors["ids"].tolist()
    found = []
    for number, length in enumerate(tensors["lengths"].tolist()):
        table = BlockTable(states.pool, whole.blocks[: -(-length // BLOCK)])
        parked = CCATensors(*(tensors[name][number][:, None] for name in CCATensors._fields))
        cca = states.snapshot(states.unpark(parked))
        found.append(Prefix(tuple(ids[:length]), Snapshot(states, (table,), (length,), cca)))
    return found
