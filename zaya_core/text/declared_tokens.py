"""What the JSON files of a model folder say about special tokens."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.errors import CheckpointError
from zaya_core.files.model_json import CONFIG, GENERATION_CONFIG, TOKENIZER_CONFIG
from zaya_core.text.surrogates import without_surrogates
from zaya_core.text.token_names import STRUCTURAL_NAMES
from zaya_core.whole_numbers import is_whole, without_fraction

_SPECIAL_TOKENS = "special_tokens_map.json"


@dataclass(frozen=True)
class DeclaredTokens:
    """Names and ids, of all those files together."""

    variables: Mapping[str, str]  # bos_token and its like → name, as templates see them
    control_names: frozenset[str]
    added: Mapping[int, str]  # tokenizer_config.json's added tokens: id → name
    bos_id: int | None
    stop_ids: frozenset[int]

    @staticmethod
    def read(folder: ModelFolder) -> DeclaredTokens:
        """Later files win over earlier ones; the lists of stop ids are joined. Raises CheckpointError."""
        config, generation = folder.json_object(CONFIG), folder.json_object(GENERATION_CONFIG)
        tokenizer_config = folder.json_object(TOKENIZER_CONFIG)
        declared = {**folder.json_object(_SPECIAL_TOKENS), **tokenizer_config}
        added = _read_added_tokens(folder.path / TOKENIZER_CONFIG, tokenizer_config)
        variables = {key: name for key, value in declared.items() if key.endswith("_token") and (name := _name(value))}
        extra = [*_listed(declared, "additional_special_tokens"), *_listed(declared, "extra_special_tokens")]
        special = [token["content"] for token in added.values() if token.get("special") is True]
        bos = _ids(folder.path / CONFIG, config, "bos_token_id")
        return DeclaredTokens(
            variables=variables,
            control_names=STRUCTURAL_NAMES.union(variables.values(), filter(None, map(_name, extra)), special),
            added={id_: token["content"] for id_, token in added.items()},
            bos_id=bos[0] if bos else None,
            stop_ids=frozenset(
                _ids(folder.path / CONFIG, config, "eos_token_id")
                + _ids(folder.path / GENERATION_CONFIG, generation, "eos_token_id")
            ),
        )


def _name(value: object) -> str | None:
    """A token's name, written as text or as an object with `content`."""
    name = value.get("content") if isinstance(value, dict) else value
    return without_surrogates(name) if isinstance(name, str) and name else None


def _listed(declared: Mapping[str, Any], key: str) -> list[object]:
    """A list of tokens, or (extra_special_tokens of multimodal models) an object of them."""
    value = declared.get(key)
    if isinstance(value, dict):
        return [*value.values()]
    return value if isinstance(value, list) else []


def _ids(path: Path, config: Mapping[str, Any], key: str) -> list[int]:
    """One id, a list of ids, or nothing. Raises CheckpointError."""
    value = config.get(key)
    ids = [*map(without_fraction, value if isinstance(value, list) else [] if value is None else [value])]
    if not all(is_whole(id_) and id_ >= 0 for id_ in ids):
        raise CheckpointError(f"{path}: {key} is {reprlib.repr(value)}, not token ids; download the file again.")
    return ids


def _read_added_tokens(path: Path, tokenizer_config: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    added = tokenizer_config.get("added_tokens_decoder", {})
    try:
        contents = {int(id_): without_surrogates(token["content"]) for id_, token in added.items()}
        if all(id_ >= 0 for id_ in contents):
            return {int(id_): {**token, "content": contents[int(id_)]} for id_, token in added.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise CheckpointError(f"{path}: added_tokens_decoder is not a list of tokens by id; download the file again.")
