"""The checkpoints that two builds are compared with, made once by the working tree and read by both."""

from __future__ import annotations

from pathlib import Path

from benchmarks.builds import WORKING_TREE, run_in

LAYERS = 8  # of full width
_FORMATS = ("int8", "int4")  # of the experts and of the dense matrices


def compared_models(folder: Path, full_width: bool) -> list[Path]:
    """The bundled model and its int8 and int4 folders; with `full_width` those of ZAYA1-8B's first layers, random.

    What `folder` has already is not made again. Raises RuntimeError when one cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bf16 = [_bundled()] + ([_random(folder.resolve())] if full_width else [])
    return [model for source in bf16 for model in (source, *_quantized(source, folder.resolve()))]


def _bundled() -> Path:
    """Found by what it holds: modules and folders of zaya_core move."""
    return next((WORKING_TREE / "zaya_core").glob("**/demo/model.safetensors")).parent


def _random(folder: Path) -> Path:
    made, partial = folder / "wide", folder / "wide.partial"
    if not made.exists():
        _make("benchmarks.full_size_checkpoint", "--out", str(partial), "--layers", str(LAYERS))
        partial.rename(made)
    return made


def _quantized(source: Path, folder: Path) -> list[Path]:
    made = [folder / f"{source.name}-{format}" for format in _FORMATS]
    for format, out in zip(_FORMATS, made, strict=True):
        if not out.exists():  # a run that was stopped leaves none by this name
            formats = ["--format", format, "--dense", format, "--calibrate", "none"]
            _make("zaya_cli", "quantize", "-m", str(source), *formats, "--out", str(out), "--quiet")
    return made


def _make(module: str, *arguments: str) -> None:
    made = run_in(WORKING_TREE, "-m", module, *arguments)
    if made.returncode:
        raise RuntimeError(f"python -m {module} {' '.join(arguments)} failed:\n{made.stderr}")
