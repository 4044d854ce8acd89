"""All tests of kernels call the interpreter quickly."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True)
def _quick_calls(monkeypatch):
    if find_spec("triton") is not None:
        from tests.gpu.triton.quick_calls import quicken_calls

        quicken_calls(monkeypatch)
