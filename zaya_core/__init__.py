"""The ZAYA model: configuration, checkpoints, layers, state, generation, tokenizer and template, RSA.

This room knows tensors and tokens. It prints nothing, parses no arguments and never looks at a terminal;
it may import `quant`, and is imported by `zaya_cli`.

Shape letters, used in every docstring and comment of the project and never re-defined:

    B  batch rows                          T  new tokens of this call
    S  key positions (past + T)            D  hidden size (2048)
    H  query heads (8)                     G  key/value heads (2)
    K  head width (128)                    C  CCA channels = (H + G) * K (1280)
    W  convolution tail = cca_time0 + cca_time1 - 2 (2)
    E  experts (16; the router has E + 1 classes, the last one skips)
    I  expert width (2048)                 R  router width (256)
    V  vocabulary (262,272)                L  layers (40)
    N  rows of a product (B * T, or those of one expert)

Attributes are imported on first use, so that `import zaya_core` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zaya_core.config.model_config import ModelConfig as ModelConfig
    from zaya_core.engine.engine import Engine as Engine
    from zaya_core.engine.engine import Request as Request
    from zaya_core.load import load_model as load_model
    from zaya_core.sampling.params import SamplingParams as SamplingParams
    from zaya_core.text.tokenizer import load_tokenizer as load_tokenizer

_HOME_OF = {
    "Engine": "zaya_core.engine.engine",
    "ModelConfig": "zaya_core.config.model_config",
    "Request": "zaya_core.engine.engine",
    "SamplingParams": "zaya_core.sampling.params",
    "load_model": "zaya_core.load",
    "load_tokenizer": "zaya_core.text.tokenizer",
}

__all__ = ["Engine", "ModelConfig", "Request", "SamplingParams", "load_model", "load_tokenizer"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'zaya_core' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
