"""`config.json` of either checkpoint layout, read into one frozen dataclass.

Every key is read with its type; a value that this program does not compute is refused with the key, the
value and what is supported; a key that nobody here knows is collected in `unknown_keys` and reported, never
silently dropped. Numbers are bounded before anything is built from them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from zaya_core.config.checks import check_sizes
from zaya_core.config.model_config import Layout, ModelConfig
from zaya_core.config.native import read_native
from zaya_core.config.original import read_original
from zaya_core.config.reader import Reader
from zaya_core.errors import ConfigError, ModelNotFoundError
from zaya_core.files.model_json import CONFIG, UNFINISHED, read_json
from zaya_core.files.names import printable


def read_config(folder: str | Path) -> ModelConfig:
    """Read `config.json` of a model folder.

    Raises: ModelNotFoundError without folder or file; ConfigError for anything that is not a ZAYA that this program
    computes.
    """
    return parse_config(read_settings(Path(folder)))


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of its `config.json` as they are. Raises as `read_config` where there are none."""
    path = folder / CONFIG
    _expect_folder(folder)
    if not os.path.lexists(path):
        raise ModelNotFoundError(_no_config(folder))
    raw = read_json(path, ConfigError)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds a {type(raw).__name__}, not an object of settings: download the file again.")
    return raw


def parse_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Typed reads from the settings of either layout. See `read_config`."""
    reader = Reader(raw)
    _expect_zaya_text_model(reader)
    config = read_native(reader) if _layout_of(raw) == "native" else read_original(reader)
    check_sizes(config)
    return config


def _expect_zaya_text_model(reader: Reader) -> None:
    model_type = reader.get("model_type")
    _expect_next_token_model(reader.raw)
    if model_type == "smoe" and "smoe_layers" in reader.raw:  # what its makers called it first
        return
    if model_type == "zaya1_vl":
        raise ConfigError("config.json describes a vision model (zaya1_vl); only the text models (zaya) are computed.")
    if model_type != "zaya":
        raise ConfigError(f"config.json: model_type is {shown(model_type)}; this program computes 'zaya' only.")


def _expect_next_token_model(raw: Mapping[str, Any]) -> None:
    """Not the twin that fills masked blocks (TiDAR): same tensors, trained for another attention and decoding.

    The keys of such a file are known from its relatives only, so that all that speaks of masks or diffusion counts.
    """
    architectures = raw.get("architectures")
    names = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    signs = [f"architectures has {shown(name)}" for name in names if _names_diffusion(name)]
    signs += [f"{printable(key)} is {shown(raw[key])}" for key in sorted(raw) if _names_diffusion(key) and raw[key]]
    if raw.get("mask_token_id") is not None:
        signs.append(f"mask_token_id is {shown(raw['mask_token_id'])}")
    if signs:
        raise ConfigError(
            f"config.json describes a model that fills in masked blocks by diffusion ({signs[0]}); this program "
            "computes those that choose one token after the other, such as Zyphra/ZAYA1-8B."
        )


def _names_diffusion(name: str) -> bool:
    return "tidar" in name.lower() or "diffusion" in name.lower()


def _layout_of(raw: Mapping[str, Any]) -> Layout:
    """`layer_types` marks the native layout; where it is left out, the native name of the experts' width does."""
    if raw.get("layer_types") is not None:
        return "native"
    is_original = any(key in raw for key in ("ffn_hidden_size", "ffn_hidden_size_list", "zaya_layers", "smoe_layers"))
    return "native" if "moe_intermediate_size" in raw and not is_original else "original"


def _expect_folder(folder: Path) -> None:
    """Not only that it is one: without permission to enter it, every file in it would seem to be missing."""
    try:
        os.stat(os.path.join(folder, "."))
    except NotADirectoryError:
        raise ModelNotFoundError(f"{folder} is a file: give the folder of a downloaded ZAYA model.") from None
    except PermissionError as error:
        raise ConfigError(f"{folder} cannot be opened ({error.strerror}): check its permissions.") from None
    except (OSError, ValueError):
        raise ModelNotFoundError(f"There is no folder {folder}: give the folder of a downloaded ZAYA model.") from None


def _no_config(folder: Path) -> str:
    if os.path.isfile(folder / UNFINISHED):
        return f"{folder} is an unfinished quantization: run its `zaya quantize` again to go on."
    names = sorted(os.listdir(folder)) if os.access(folder, os.R_OK) else []
    gguf = [printable(name) for name in names if name.lower().endswith(".gguf")]
    found = f" ({gguf[0]} is of llama.cpp, which this program does not read)" if gguf else ""
    return f"{folder} has no config.json{found}: give the folder of a downloaded ZAYA model."
