"""The interpreter in half the time."""

from __future__ import annotations

import pytest
from triton.runtime import interpreter

from quant.kernels.triton.launch import IS_INTERPRETED


def quicken_calls(patch: pytest.MonkeyPatch) -> None:
    """Triton's language is patched anew for each function that a kernel calls: once for each module is enough."""
    if not IS_INTERPRETED:
        return
    patched = set()

    def call(self, *args, **kwargs):
        if id(self.fn.__globals__) not in patched:
            patched.add(id(self.fn.__globals__))
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    patch.setattr(interpreter.InterpretedFunction, "__call__", call)
