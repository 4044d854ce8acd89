"""Which matrices of a model folder are packed, in which format: the `quantization` block of `config.json`.

`quantization` is written by `zaya quantize`; `quantization_config` is that of compressed-tensors, which Zyphra's own
FP8-Experts and MXFP4-Experts repositories carry, and is read as far as it describes weights like theirs.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quant.formats import FORMAT_VERSION, FORMATS, GROUP, Format, Scheme
from zaya_core.config.weight_formats import DENSE_FORMATS, EXPERT_FORMATS, FLOAT
from zaya_core.errors import ConfigError

_SCHEMES: dict[Format, Scheme] = {name: one.scheme for name, one in FORMATS.items() if one.scheme is not None}
_DTYPES = ("bfloat16", "float32")
_HINT = "give the folder of the unquantized model, or quantize it again with this version"


@dataclass(frozen=True)
class Quantization:
    """Formats of a folder's matrices.

    experts: of the stacks of experts. dense: of attention projections, embedding and head; None where they are stored
    as floats. dtype: that of activations. is_ours: whether names and layout are those of `zaya quantize`. facts: what
    the block says besides (rounding, calibration, source).
    """

    experts: Format
    dense: Format | None
    dtype: str | None
    is_ours: bool
    facts: Mapping[str, Any] = field(default_factory=dict)

    def format_of(self, name: str) -> Format | None:
        """The format of a parameter by its native name, None for what is stored as floats."""
        if ".mlp.experts." in name:
            return self.experts
        is_projection = ".self_attn." in name and "_proj." in name and ".conv_qk_" not in name
        is_table = name in ("model.embed_tokens.weight", "lm_head.weight")
        return self.dense if name.endswith(".weight") and (is_projection or is_table) else None

    def describe(self) -> str:
        """One line for people."""
        rest = self.dense or FLOAT
        return f"{self.experts} experts, {rest} attention and embedding"


def parse_quantization(raw: Mapping[str, Any]) -> Quantization | None:
    """The block of a `config.json`, None without one. Raises ConfigError for one that is not read."""
    ours, theirs = raw.get("quantization"), raw.get("quantization_config")
    if ours is not None and theirs is not None:
        raise ConfigError(f"config.json has both quantization and quantization_config: {_HINT}.")
    if ours is not None:
        return _parse_ours(ours)
    return None if theirs is None else _parse_compressed_tensors(theirs)


def _parse_ours(block: Any) -> Quantization:
    if not isinstance(block, dict):
        raise ConfigError(f"config.json: quantization is {reprlib.repr(block)}; an object of settings is needed.")
    _expect(block, "format_version", (FORMAT_VERSION,))
    _expect(block, "format", EXPERT_FORMATS)
    _expect(block, "dense", (*DENSE_FORMATS, FLOAT))
    _expect(block, "group_size", (GROUP,))
    _expect(block, "dtype", _DTYPES)
    dense = None if block["dense"] == FLOAT else block["dense"]
    facts = {key: block[key] for key in ("rounding", "calibration", "source") if key in block}
    _expect_facts(facts)
    return Quantization(block["format"], dense, block["dtype"], is_ours=True, facts=facts)


def _expect_facts(facts: Mapping[str, Any]) -> None:
    """What is only shown, so far that it can be shown."""
    calibration, source = facts.get("calibration"), facts.get("source")
    tokens = calibration.get("tokens") if isinstance(calibration, dict) else 0
    is_sound = (
        isinstance(facts.get("rounding", ""), str)
        and isinstance(calibration, (dict, type(None)))
        and isinstance(source, (dict, type(None)))
        and isinstance(tokens, int)
    )
    if not is_sound:
        raise ConfigError(f"config.json: quantization has unreadable facts {reprlib.repr(dict(facts))}: {_HINT}.")


def _expect(block: Mapping[str, Any], key: str, supported: tuple[Any, ...]) -> None:
    value = block.get(key)
    if isinstance(value, bool) or value not in supported:
        choices = " or ".join(str(one) for one in supported)
        raise ConfigError(
            f"config.json: quantization.{key} is {reprlib.repr(value)}; this version reads {choices}: {_HINT}."
        )


def _parse_compressed_tensors(block: Any) -> Quantization:
    method = block.get("quant_method") if isinstance(block, dict) else block
    if method != "compressed-tensors":
        read = " and ".join(name.upper() for name in _SCHEMES)
        raise ConfigError(
            f"config.json: quantization_config says that the weights are quantized by {reprlib.repr(method)}; "
            f"folders of `zaya quantize` and compressed-tensors' {read} are read: "
            "give the folder of the unquantized model."
        )
    if block.get("kv_cache_scheme") is not None:
        raise ConfigError("config.json: quantization_config quantizes keys and values, too, which is not computed.")
    groups = block.get("config_groups")
    schemes = list(groups.values()) if isinstance(groups, dict) else []
    kinds = {_kind_of_scheme(scheme) for scheme in schemes}
    if len(kinds) != 1:
        raise ConfigError(f"config.json: quantization_config has {len(kinds)} kinds of weights; one is read.")
    return Quantization(kinds.pop(), dense=None, dtype=None, is_ours=False)


def _kind_of_scheme(scheme: Any) -> Format:
    weights = scheme.get("weights") if isinstance(scheme, dict) else None
    found = weights if isinstance(weights, dict) else {}
    bits, kind, strategy = found.get("num_bits"), found.get("type"), found.get("strategy")
    if kind == "float" and found.get("symmetric", True) is True:
        for name, scheme in _SCHEMES.items():
            has_group = scheme.group is None or found.get("group_size") == scheme.group
            if bits == scheme.bits and strategy in scheme.strategies and has_group:
                return name
    raise ConfigError(
        f"config.json: quantization_config describes weights of type {reprlib.repr(kind)}, "
        f"{reprlib.repr(bits)} bits, strategy {reprlib.repr(strategy)}, group {reprlib.repr(found.get('group_size'))}; "
        f"float {' and '.join(scheme.words for scheme in _SCHEMES.values())} are read: "
        "give the folder of the unquantized model."
    )
