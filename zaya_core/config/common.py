"""What both layouts call the same."""

from __future__ import annotations

from typing import Any

from zaya_core.config.quantization import parse_quantization
from zaya_core.config.reader import Reader


def read_common(reader: Reader, unknown_keys: list[str]) -> dict[str, Any]:
    """What both layouts call the same. Comes last: what has not been read by then is unknown."""
    reader.expect("clamp_temp", False)
    reader.expect("rope_type", "default", None)
    values: dict[str, Any] = {
        "vocab_size": reader.integer("vocab_size", 262_272),
        "hidden_size": reader.integer("hidden_size", 2048),
        "cca_time0": reader.integer("cca_time0", 2),
        "cca_time1": reader.integer("cca_time1", 2),
        "max_position_embeddings": reader.integer("max_position_embeddings", 131_072),
        "attention_bias": reader.flag("attention_bias", False),
        "lm_head_bias": reader.flag("lm_head_bias", False),
        "tie_word_embeddings": reader.flag("tie_word_embeddings", True),
        "bos_token_id": reader.token_id("bos_token_id"),
        "eos_token_ids": reader.token_ids("eos_token_id"),
        "pad_token_id": reader.token_id("pad_token_id"),
        "quantization": parse_quantization(reader.all_of("quantization", "quantization_config")),
    }
    values["unknown_keys"] = (*reader.unknown(), *unknown_keys)
    return values
