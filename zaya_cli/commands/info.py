"""`zaya info`: what a model folder holds, from its headers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from zaya_cli.flags.options import InfoKind
from zaya_cli.models.choice import find_model
from zaya_cli.sizes import dtype_name, gigabytes
from zaya_cli.terminal.output import stdout_console, write_json
from zaya_cli.terminal.visible import one_line
from zaya_core.checkpoint.checkpoint import Checkpoint, open_checkpoint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.config.model_config import ModelConfig

_LAYOUTS = {
    "native": "native, one entry a layer (Zyphra/ZAYA1-8B)",
    "original": "original, alternating half layers (ZAYA1-base, -legacy)",
}
_PARTS = (  # the first fitting part counts
    ("experts", ".mlp.experts."),
    ("embedding", "embed_tokens"),
    ("head", "lm_head"),
    ("router", ".mlp.gate."),
    ("convolutions", ".conv_qk_"),
    ("attention", ".self_attn."),
    ("norms and scales", ""),
)


@dataclass(frozen=True)
class Part:
    """Share of the model: parameters and bytes in the files."""

    parameters: int
    nbytes: int


def info(model: str | None, format: InfoKind) -> None:
    """Print the description. Raises the errors of an unusable folder."""
    found = find_model(model, device="cpu")
    checkpoint = open_checkpoint(found.folder)
    parts = weigh_parts(checkpoint)
    if format == "json":
        write_json(_as_json(found.folder, found.config, checkpoint, parts))
    else:
        _print_table(found.folder, found.config, checkpoint, parts)


def weigh_parts(checkpoint: Checkpoint) -> dict[str, Part]:
    """Parameters and bytes by part of the model, the largest first."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, parameter in checkpoint.parameters.items():
        part = next(part for part, mark in _PARTS if mark in name)
        count = 1
        for size in parameter.shape:
            count *= size
        sums[part][0] += count
        sums[part][1] += checkpoint.stored_bytes(name)
    ordered = sorted(sums.items(), key=lambda item: -item[1][1])
    return {part: Part(parameters, nbytes) for part, (parameters, nbytes) in ordered}


def active_parameters(config: ModelConfig, parts: dict[str, Part]) -> int:
    """Parameters that one token uses: one expert a layer, the head, everything else but the embedding's other rows."""
    total = sum(part.parameters for part in parts.values())
    idle_experts = parts["experts"].parameters // config.num_experts * (config.num_experts - 1)
    idle_embedding = 0 if config.tie_word_embeddings else parts["embedding"].parameters
    return total - idle_experts - idle_embedding


def _facts(
    folder: ModelFolder, config: ModelConfig, checkpoint: Checkpoint, parts: dict[str, Part]
) -> list[tuple[str, str]]:
    total = sum(part.parameters for part in parts.values())
    sliding = config.layer_types.count("hybrid_sliding")
    window = f", {sliding} with a window of {config.sliding_window:,}" if sliding and config.sliding_window else ""
    per_token = config.kv_bytes_per_token(checkpoint.dtype.itemsize)
    all_keys = gigabytes(per_token * config.max_position_embeddings)
    heads = f"{config.num_attention_heads} query heads, {config.num_key_value_heads} key heads of {config.head_dim}"
    facts = [
        ("folder", str(folder)),
        ("size", gigabytes(folder.nbytes)),
        ("layout", _LAYOUTS[config.layout]),
        *_storage_facts(config, checkpoint),
        ("parameters", f"{total:,}, of which a token uses {active_parameters(config, parts):,}"),
        ("layers", f"{config.num_hidden_layers}{window}"),
        ("hidden size", f"{config.hidden_size:,}"),
        ("attention", heads),
        ("experts", f"{config.num_experts} of width {config.moe_intermediate_size:,}, one a token"),
        ("vocabulary", f"{config.vocab_size:,}"),
        ("context", f"{config.max_position_embeddings:,} tokens"),
        ("keys and values", f"{per_token:,} bytes a token, {all_keys} for the whole context"),
    ]
    return facts + ([("unknown settings", ", ".join(config.unknown_keys))] if config.unknown_keys else [])


def _storage_facts(config: ModelConfig, checkpoint: Checkpoint) -> list[tuple[str, str]]:
    dtype = dtype_name(checkpoint.dtype)
    if config.quantization is None:
        return [("stored as", dtype)]
    facts = config.quantization.facts
    stored = [("stored as", f"{config.quantization.describe()}; computed in {dtype}")]
    if "rounding" in facts:
        calibration = facts.get("calibration")
        by = (
            f", calibrated on {calibration.get('tokens', 0):,} tokens ({calibration.get('text')})"
            if calibration
            else ""
        )
        stored.append(("rounding", f"{facts['rounding']}{by}"))
    if source := facts.get("source"):
        stored.append(("made from", " ".join(str(source[key]) for key in ("name", "revision") if source.get(key))))
    return stored


def _print_table(folder: ModelFolder, config: ModelConfig, checkpoint: Checkpoint, parts: dict[str, Part]) -> None:
    console = stdout_console()
    for name, value in _facts(folder, config, checkpoint, parts):
        console.print(one_line(f"{name:<17}{value}"))
    total = sum(part.nbytes for part in parts.values())
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, justify in (("part", "left"), ("parameters", "right"), ("size", "right"), ("share", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, part in parts.items():
        table.add_row(name, f"{part.parameters:,}", gigabytes(part.nbytes), f"{100 * part.nbytes / total:.1f} %")
    table.add_row("all", f"{sum(part.parameters for part in parts.values()):,}", gigabytes(total), "100.0 %")
    console.print()
    console.print(table)


def _as_json(
    folder: ModelFolder, config: ModelConfig, checkpoint: Checkpoint, parts: dict[str, Part]
) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "bytes": folder.nbytes,
        "layout": config.layout,
        "dtype": dtype_name(checkpoint.dtype),
        "quantization": config.quantization
        and {
            "format": config.quantization.experts,
            "dense": config.quantization.dense or "bf16",
            **config.quantization.facts,
        },
        "parameters": sum(part.parameters for part in parts.values()),
        "active_parameters": active_parameters(config, parts),
        "kv_bytes_per_token": config.kv_bytes_per_token(checkpoint.dtype.itemsize),
        "context": config.max_position_embeddings,
        "parts": {name: {"parameters": part.parameters, "bytes": part.nbytes} for name, part in parts.items()},
        "unknown_settings": list(config.unknown_keys),
    }
