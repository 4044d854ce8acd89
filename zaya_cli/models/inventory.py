"""The models on this machine, each with what its small files say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zaya_cli.models import hub
from zaya_cli.models.folder import BUNDLED, DEFAULT_REPO
from zaya_cli.models.found import unchecked_settings
from zaya_cli.models.quantized_folder import ORIGINALS
from zaya_cli.user_files import quantized_models
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.config.kv_format import KVFormat
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.parse import parse_config
from zaya_core.errors import CheckpointError, ConfigError, ModelNotFoundError
from zaya_core.files.model_json import UNFINISHED
from zaya_core.machine.memory_fit import MemoryNeed, memory_need

Place = Literal["hub", "quantized", "bundled"]

_DTYPES = {"bfloat16": "bf16", "float32": "f32", "float16": "f16"}


@dataclass(frozen=True)
class PresentModel:
    """One model folder. `name` is what --model takes; `problem` says why it cannot be used, None if it can."""

    name: str
    folder: Path
    place: Place
    format: str
    weight_bytes: int
    is_default_family: bool
    config: ModelConfig | None = None
    problem: str | None = None

    @property
    def nbytes(self) -> int:
        """The size on disk."""
        return ModelFolder(self.folder).nbytes

    def need(self, context: int, kv: KVFormat = "auto") -> MemoryNeed:
        """Bytes of memory with `context` tokens."""
        assert self.config is not None  # it has no problem
        return memory_need(self.config, self.weight_bytes, context, kv)


def present_models() -> list[PresentModel]:
    """All ZAYA models: downloaded ones by name, then quantized ones, then bundled ones. Reads small files only."""
    return [*_in_hub_cache(), *_in(quantized_models(), "quantized"), *_in(BUNDLED, "bundled")]


def _in(folder: Path, place: Place) -> Iterator[PresentModel]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            continue
        if (path / "config.json").is_file():
            yield _described(path.name, path, place, _raw_config(path / "config.json"))
        elif (path / UNFINISHED).is_file():
            problem = "an unfinished quantization: its `zaya quantize` goes on when it is typed again"
            yield PresentModel(path.name, path, place, "?", ModelFolder(path).weight_bytes, False, None, problem)
        elif path.name.endswith(ORIGINALS):
            nbytes = sum(part.stat().st_size for part in path.glob("files/blobs/*"))
            problem = "files of an unfinished `zaya pull --quant`, which goes on when it is typed again"
            yield PresentModel(path.name, path, place, "?", nbytes, False, None, problem)


def _in_hub_cache() -> Iterator[PresentModel]:
    for folder in sorted(hub.cache_root().glob("models--*--*")):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        configs = {path.parent.name: _raw_config(path) for path in folder.glob("snapshots/*/config.json")}
        if not any(raw.get("model_type") == "zaya" for raw in configs.values()):
            continue
        found = [(revision, hub.cached_folder(repo, revision)) for revision in _revisions(folder)]
        whole = [(revision, path) for revision, path in found if path is not None and any(path.glob("*.safetensors"))]
        for revision, path in whole:
            name = repo if revision == hub.DEFAULT_REVISION else f"{repo}@{revision}"
            yield _described(name, path, "hub", configs.get(path.name, {}))
        if not whole:
            nbytes = sum(path.stat().st_size for path in folder.glob("blobs/*"))
            problem = f"the download is not finished: `zaya pull {repo}` goes on"
            yield PresentModel(repo, folder, "hub", "?", nbytes, _is_default_family(repo, {}), None, problem)


def _revisions(folder: Path) -> list[str]:
    """Branches and tags of a cached repository, then commits that none of them names."""
    refs = {path.relative_to(folder / "refs").as_posix(): path for path in folder.glob("refs/**/*") if path.is_file()}
    named = {path.read_text().strip() for path in refs.values()}
    commits = sorted(path.name for path in folder.glob("snapshots/*"))
    return [*sorted(refs, key=lambda ref: (ref != hub.DEFAULT_REVISION, ref)), *(c for c in commits if c not in named)]


def _described(name: str, folder: Path, place: Place, raw: dict[str, Any]) -> PresentModel:
    nbytes = ModelFolder(folder).weight_bytes
    problem = None if nbytes else "it has no *.safetensors files"
    try:
        config = parse_config(raw)
    except ConfigError as error:
        return PresentModel(name, folder, place, "?", nbytes, _is_default_family(name, raw), None, str(error))
    format = format_of(config, raw)
    return PresentModel(name, folder, place, format, nbytes, _is_default_family(name, raw), config, problem)


def _raw_config(path: Path) -> dict[str, Any]:
    """What the file holds, {} if that is nothing usable."""
    try:
        return unchecked_settings(path)
    except (CheckpointError, ModelNotFoundError):
        return {}


def format_of(config: ModelConfig, raw: dict[str, Any]) -> str:
    """The format of the weights: bf16, f32, fp8, int8, `int4 (dense int8)` ..."""
    if config.quantization is None:
        dtype = str(raw.get("dtype") or raw.get("torch_dtype") or "bfloat16")
        return _DTYPES.get(dtype, dtype)
    experts, dense = config.quantization.experts, config.quantization.dense
    return f"{experts} (dense {dense})" if dense not in (None, experts) else experts


def _is_default_family(name: str, raw: dict[str, Any]) -> bool:
    quantization = raw.get("quantization")
    source = str(quantization.get("source", "")) if isinstance(quantization, dict) else ""
    wanted = DEFAULT_REPO.split("/")[1]
    return wanted in name or wanted in source
