"""A short name for exactly these weights, from headers alone: which folder a quantized one was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def fingerprint(folder: Path, files: Sequence[str]) -> str:
    """32 hexadecimal digits from `config.json` and the headers and sizes of the weight files; no data is read.

    files: names of safetensors files in the folder whose headers have been checked.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for name in sorted(files):
        with (folder / name).open("rb") as file:
            length = file.read(8)
            header = file.read(int.from_bytes(length, "little"))
        digest.update(f"{name} {(folder / name).stat().st_size} ".encode() + header)
    return digest.hexdigest()[:32]
