"""Typed reads of the settings of a `config.json`.

A value that this program does not compute is refused with the key, the value and what is supported; a key that nobody
asked for is unknown, and reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as shown
from typing import Any

from zaya_core.config.bounds import LARGEST
from zaya_core.errors import ConfigError
from zaya_core.files.names import printable
from zaya_core.whole_numbers import is_number, is_whole, without_fraction

_LARGEST_NUMBER = 1e30

# Keys that describe training, other programs' switches or the file itself: known, and without effect here.
_WITHOUT_EFFECT = frozenset(
    [
        "_name_or_path",
        "activation_func_fp8_input_store",
        "apply_rope_fusion",
        "ar_threshold",
        "architectures",
        "attention_dropout",
        "auto_map",
        "bias_activation_fusion",
        "chunk_size",
        "chunk_size_feed_forward",
        "dtype",
        "fused_add_norm",
        "id2label",
        "ignore_mod_in_smoe_block",
        "init_from_megatron_checkpoint",
        "init_from_megatron_checkpoint_path",
        "initializer_range",
        "is_encoder_decoder",
        "label2id",
        "lora_rank",
        "mamba_cache_dtype",
        "mamba_chunk_size",
        "mask_token_id",
        "norm_topk_prob",
        "num_attention_heads_list",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "problem_type",
        "residual_in_fp32",
        "return_dict",
        "smoe_high_prec",
        "smoe_mod_per",
        "smoe_p_switch",
        "smoe_parallel_scan_thres",
        "tokenizer_class",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "vocab_padding",
        "zaya_high_prec",
    ]
)


class Reader:
    """Typed access to the settings; remembers which keys were asked for."""

    def __init__(self, raw: Mapping[str, Any]):
        self.raw = raw
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return self.raw.get(key, default)

    def all_of(self, *keys: str) -> dict[str, Any]:
        """These settings as they are."""
        return {key: self.get(key) for key in keys}

    def first_of(self, *keys: str) -> str:
        """Of several names for one setting, the first that has a value, else the first; all count as read."""
        self.read.update(keys)
        return next((key for key in keys if self.raw.get(key) is not None), keys[0])

    def integer(self, key: str, default: int | None = None) -> int:
        return self.integer_of(key, self.get(key, default))

    def integer_of(self, key: str, value: Any) -> int:
        number: int = without_fraction(value)
        if not is_whole(number):
            raise ConfigError(f"config.json: {key} is {shown(value)}; a whole number is needed.")
        return number

    def same_in_every_layer(self, key: str, default: int | None = None) -> int:
        """A number, or ZAYA1-base's list of one number a half layer (0 or null where the half has no such part)."""
        value = self.get(key, default)
        if not isinstance(value, list):
            return self.integer_of(key, value)
        distinct = sorted({self.integer_of(key, entry) for entry in value if not is_absent(entry)})
        if len(distinct) != 1:
            raise ConfigError(
                f"config.json: {key} has {shown(distinct)} in its layers; one value for all of them is supported."
            )
        return distinct[0]

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        if not is_number(value) or not abs(value) <= _LARGEST_NUMBER:
            raise ConfigError(f"config.json: {key} is {shown(value)}; a finite number is needed.")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise ConfigError(f"config.json: {key} is {shown(value)}; true or false is needed.")
        return value

    def expect(self, key: str, *supported: Any) -> None:
        """Refuse a value that would change the maths."""
        if key not in self.raw:
            return
        value = self.get(key)
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in supported):
            choices = " or ".join(repr(one) for one in supported)
            raise ConfigError(f"config.json: {key} is {shown(value)}; this program computes {choices} only.")

    def token_id(self, key: str) -> int | None:
        ids = self.token_ids(key)
        if len(ids) > 1:
            raise ConfigError(f"config.json: {key} is {shown(list(ids))}; one token id is needed.")
        return ids[0] if ids else None

    def token_ids(self, key: str) -> tuple[int, ...]:
        value = self.get(key)
        entries = value if isinstance(value, list) else [] if value is None else [value]
        ids = tuple(self.integer_of(key, entry) for entry in entries)
        if not all(0 <= id_ < LARGEST["vocab_size"] for id_ in ids):
            raise ConfigError(f"config.json: {key} is {shown(value)}; token ids from 0 are needed.")
        return ids

    def unknown(self) -> list[str]:
        """Keys that nobody asked for, fit for a terminal."""
        return sorted(printable(key) for key in set(self.raw) - self.read - _WITHOUT_EFFECT)


def is_absent(entry: Any) -> bool:
    """Whether a half layer has no such part, in a list of one entry for each."""
    return entry is None or (entry == 0 and not isinstance(entry, bool))
