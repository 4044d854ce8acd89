"""The JSON files of a model folder: how large each may be, and how it is read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from zaya_core.errors import CheckpointError
from zaya_core.files.model_file import read_model_file

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
UNFINISHED = "config.json.unfinished"  # what a folder has instead until it is complete
UNFINISHED_FOLDER = ".unfinished"  # how its name ends until then
INDEX = "model.safetensors.index.json"
_MOST_BYTES = {CONFIG: 4_000_000, INDEX: 64_000_000}
_USUAL_MOST = 20 << 20


def read_json(path: Path, failure: type[CheckpointError] = CheckpointError) -> Any:
    """What a JSON file holds. Raises as `read_model_file`; `failure` for what is not JSON."""
    content = read_model_file(path, _MOST_BYTES.get(path.name, _USUAL_MOST), failure)
    try:
        return json.loads(content.decode().removeprefix("\ufeff"))
    except RecursionError:
        raise failure(f"{path} is not valid JSON (nested too deeply): download the file again.") from None
    except ValueError as error:  # of a number with too many digits, too
        reason = str(error).splitlines()[0]
        raise failure(f"{path} is not valid JSON ({reason}): download the file again.") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """An object of settings; empty where there is no such file. Raises as `read_json`."""
    if not os.path.lexists(path):
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds {type(value).__name__}, not an object; download the file again.")
    return value
