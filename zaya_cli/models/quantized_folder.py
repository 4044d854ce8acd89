"""Which quantized folder belongs to which model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from zaya_cli.models.folder import DEFAULT_REPO, find_model_folder
from zaya_cli.models.found import FoundModel
from zaya_cli.user_files import from_home, quantized_models
from zaya_core.config.weight_formats import DEFAULT_DENSE
from zaya_core.errors import ModelNotFoundError, UsageError

ORIGINALS = ".originals"  # beside a result: what `zaya pull --quant` has fetched for it and not used up yet
_SNAPSHOT = re.compile(r"models--(?P<repo>.+)/snapshots/(?P<revision>[0-9a-f]+)$")


@dataclass(frozen=True)
class SourceName:
    """What a model is called for people and in names of folders, and its revision on the hub if it has one."""

    name: str
    revision: str | None

    @property
    def slug(self) -> str:
        """Fit for a folder's name: `Zyphra--ZAYA1-8B`."""
        return self.name.replace("/", "--")


def source_name(model: str | None, folder: Path | None) -> SourceName:
    """Of a model as a person gave it (None: the default repository), found in `folder`."""
    found = _SNAPSHOT.search(folder.resolve().as_posix()) if folder is not None else None
    if found:
        return SourceName(found["repo"].replace("--", "/", 1), found["revision"])
    if model is None:
        return SourceName(DEFAULT_REPO, None)
    path = from_home(model)
    return SourceName(path.resolve().name if path.is_dir() else model, None)


def default_out(source: SourceName, kind: str, dense: str) -> Path:
    """Where `zaya quantize` writes without --out; `--quant` finds those with the default --dense."""
    return quantized_models() / (
        f"{source.slug}-{kind}" if dense == DEFAULT_DENSE else f"{source.slug}-{kind}-dense-{dense}"
    )


def find_quantized_folder(model: str | None, kind: str) -> FoundModel:
    """The model for `--model MODEL --quant KIND`.

    Raises: ModelNotFoundError with what to type where there is none; UsageError where it was made from other weights.
    """
    source = _source(model)
    if source is not None and source.config.quantization is not None:
        if (own := source.config.quantization.experts) != kind:
            raise UsageError(
                f"{source.path} is quantized to {own}, not to {kind}: leave --quant out, or give another --model."
            )
        return source
    folder = default_out(source_name(model, None if source is None else source.path), kind, DEFAULT_DENSE)
    if not (folder / "config.json").is_file():
        what = f" --model {model}" if model is not None else ""
        raise ModelNotFoundError(
            f"There is no {kind} folder of {model or DEFAULT_REPO} ({folder}): type "
            f"`zaya quantize{what} --format {kind}` to make it."
        )
    found = FoundModel(folder.name, folder)
    if source is not None:
        _expect_made_from(found, source)
    return found


def _source(model: str | None) -> FoundModel | None:
    """None where the quantized folder may be the only copy."""
    try:
        folder = find_model_folder(model or DEFAULT_REPO)
    except ModelNotFoundError:
        return None
    return FoundModel(folder.name, folder)


def _expect_made_from(found: FoundModel, source: FoundModel) -> None:
    quantization = found.config.quantization
    made_from = None if quantization is None else quantization.facts.get("source")
    wanted = made_from.get("fingerprint") if isinstance(made_from, dict) else None
    if wanted != source.folder.fingerprint:
        raise UsageError(
            f"{found.path} was made from other weights than those in {source.path}: delete it and quantize again, "
            "or give its path as --model."
        )
