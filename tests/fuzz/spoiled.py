"""Tensors and numbers as a caller may hand them over by mistake."""

from __future__ import annotations

from math import nan

import torch

DTYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn,
    torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool,
)  # fmt: skip
NO_NUMBERS = (None, "3", True, 2.0, nan, -1, -(2**40), 2**40, 2**63, 2**64, torch.tensor(1), [1])


def in_steps(tensor):
    """The same numbers, with others between them."""
    return torch.stack([tensor, torch.ones_like(tensor)], -1)[..., 0]


def turned(tensor):
    """The same numbers, the first and last dimension exchanged in memory."""
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


def narrowed(random, tensor):
    dimension = random.randrange(tensor.dim())
    return tensor.narrow(dimension, 0, random.randrange(tensor.shape[dimension] + 1)).contiguous()


def widened(random, tensor):
    dimension = random.randrange(tensor.dim())
    return torch.cat([tensor, tensor.narrow(dimension, 0, 1)], dimension)


def with_values(random, tensor):
    """Of whole numbers: some out of any range."""
    changed = tensor.clone()
    if tensor.dtype in (torch.int64, torch.int32):
        most = torch.iinfo(tensor.dtype).max
        changed.view(-1)[random.randrange(tensor.numel())] = random.choice((-1, -most, most, 10**6, -7))
    return changed


def spoiled(random, tensor):
    """A tensor of another shape, dtype, stride or device, or no tensor at all; or the same one."""
    if tensor is None or not tensor.dim() or not tensor.numel():
        return torch.zeros(3)
    ways = (
        lambda: in_steps(tensor), lambda: turned(tensor), lambda: tensor[:1].expand_as(tensor), lambda: tensor.clone(),
        lambda: narrowed(random, tensor),
        lambda: widened(random, tensor), lambda: with_values(random, tensor),
        lambda: tensor.to(random.choice(DTYPES)), lambda: tensor.flatten(), lambda: tensor[None],
        lambda: tensor[..., None],
        lambda: tensor.flatten()[0], lambda: tensor.to("meta"), lambda: tensor.tolist(), lambda: None,
        lambda: tensor.to_sparse(), lambda: tensor.squeeze(), lambda: "tensor",
    )  # fmt: skip
    return random.choice(ways)()
