"""The models on this machine, and which of them is taken when none is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from zaya_cli.machine.hardware import Memory
from zaya_cli.models import hub
from zaya_cli.models.folder import BUNDLED, DEFAULT_REPO, folder_bytes, weight_bytes
from zaya_cli.models.quantized_folder import ORIGINALS
from zaya_cli.sizes import gigabytes
from zaya_cli.user_files import quantized_models
from zaya_core.config.kv_format import KVFormat
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.parse import parse_config, read_config
from zaya_core.config.weight_formats import FLOAT, LARGEST_FIRST
from zaya_core.errors import CheckpointError, ConfigError, MemoryFitError, ModelNotFoundError
from zaya_core.files.model_json import UNFINISHED, read_json
from zaya_core.machine.memory_fit import USUAL_CONTEXT, MemoryNeed, Verdict, memory_need

Place = Literal["hub", "quantized", "bundled"]

_CLOSENESS = (FLOAT, "f32", *LARGEST_FIRST)  # to the weights as published; the closest first
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
        return folder_bytes(self.folder)

    @property
    def is_toy(self) -> bool:
        """Whether it has the sizes of a bundled model: that, or what was made of it."""
        return self.place == "bundled" or (self.config is not None and _sizes(self.config) in _bundled_sizes())

    def need(self, context: int, kv: KVFormat = "auto") -> MemoryNeed:
        """Bytes of memory with `context` tokens."""
        assert self.config is not None  # it has no problem
        return memory_need(self.config, self.weight_bytes, context, kv)


@dataclass(frozen=True)
class Choice:
    """The model to use when none was named, and why, in words."""

    model: PresentModel
    verdict: Verdict
    reason: str


def present_models() -> list[PresentModel]:
    """All ZAYA models: downloaded ones by name, then quantized ones, then bundled ones. Reads small files only."""
    return [*_in_hub_cache(), *_in(quantized_models(), "quantized"), *_in(BUNDLED, "bundled")]


def choose(models: list[PresentModel], memory: Memory, context: int | None = None, kv: KVFormat = "auto") -> Choice:
    """The one closest to the published weights that fits; a ZAYA1-8B before any other; never a bundled one, nor
    what was made of it.

    Raises ModelNotFoundError with what to type if there is none, MemoryFitError if none fits.
    """
    usable = [model for model in models if model.problem is None and not model.is_toy]
    if not usable:
        raise ModelNotFoundError(_nothing_present([model for model in models if model.problem is not None]))
    tokens = context or USUAL_CONTEXT
    needs = {model.name: model.need(tokens, kv) for model in usable}
    verdicts = {name: need.verdict(memory.total, memory.free) for name, need in needs.items()}
    for wanted in ("fits", "tight"):
        fitting = [model for model in usable if verdicts[model.name] == wanted]
        if fitting:
            best = min(fitting, key=_preference)
            return Choice(best, verdicts[best.name], _reason(best, usable, verdicts, memory, needs))
    least = min(usable, key=lambda model: model.weight_bytes)
    raise MemoryFitError(
        f"No model on this machine fits into its memory ({gigabytes(memory.total)}): {least.name}, the smallest, needs "
        f"{gigabytes(needs[least.name].total)}; pull or quantize a smaller format, or name a model and add --force."
    )


@cache
def _bundled_sizes() -> frozenset[tuple[int, ...]]:
    return frozenset(_sizes(read_config(folder)) for folder in BUNDLED.iterdir() if folder.is_dir())


def _sizes(config: ModelConfig) -> tuple[int, ...]:
    return config.vocab_size, config.hidden_size, config.num_hidden_layers, config.moe_intermediate_size


def _preference(model: PresentModel) -> tuple[bool, int, int]:
    kind = model.format.split()[0]
    closeness = _CLOSENESS.index(kind) if kind in _CLOSENESS else len(_CLOSENESS)
    return (not model.is_default_family, closeness, -model.weight_bytes)


def _reason(
    best: PresentModel,
    usable: list[PresentModel],
    verdicts: dict[str, Verdict],
    memory: Memory,
    needs: dict[str, MemoryNeed],
) -> str:
    need = gigabytes(needs[best.name].total)
    if len(usable) == 1:
        return f"the only model here; needs {need}"
    better = [model for model in usable if _preference(model) < _preference(best)]
    if not better:
        return f"the closest to the published weights; needs {need} of {gigabytes(memory.total)}"
    closest = min(better, key=_preference)
    free = "" if verdicts[closest.name] == "does not fit" else f", {gigabytes(memory.free)} free"
    return (
        f"needs {need}; {closest.name} needs {gigabytes(needs[closest.name].total)} of {gigabytes(memory.total)}{free}"
    )


def _nothing_present(broken: list[PresentModel]) -> str:
    for model in broken:
        if model.name == DEFAULT_REPO:
            return f"{model.name} is on this machine but cannot be used: {model.problem}"
    return (
        f"There is no model on this machine yet: type `zaya pull` ({DEFAULT_REPO}, 17.7 GB), give --model FOLDER, or "
        "try the small bundled one with --model demo."
    )


def _in(folder: Path, place: Place) -> Iterator[PresentModel]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            continue
        if (path / "config.json").is_file():
            yield _described(path.name, path, place)
        elif (path / UNFINISHED).is_file():
            problem = "an unfinished quantization: its `zaya quantize` goes on when it is typed again"
            yield PresentModel(path.name, path, place, "?", weight_bytes(path), False, None, problem)
        elif path.name.endswith(ORIGINALS):
            nbytes = sum(part.stat().st_size for part in path.glob("files/blobs/*"))
            problem = "files of an unfinished `zaya pull --quant`, which goes on when it is typed again"
            yield PresentModel(path.name, path, place, "?", nbytes, False, None, problem)


def _in_hub_cache() -> Iterator[PresentModel]:
    for folder in sorted(hub.cache_root().glob("models--*--*")):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        configs = sorted(folder.glob("snapshots/*/config.json"))
        if not any(_raw_config(path).get("model_type") == "zaya" for path in configs):
            continue
        found = [(revision, hub.cached_folder(repo, revision)) for revision in _revisions(folder)]
        whole = [(revision, path) for revision, path in found if path is not None and any(path.glob("*.safetensors"))]
        for revision, path in whole:
            yield _described(repo if revision == hub.DEFAULT_REVISION else f"{repo}@{revision}", path, "hub")
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


def _described(name: str, folder: Path, place: Place) -> PresentModel:
    raw = _raw_config(folder / "config.json")
    nbytes = weight_bytes(folder)
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
        raw = read_json(path)
    except (CheckpointError, ModelNotFoundError):
        return {}
    return raw if isinstance(raw, dict) else {}


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
