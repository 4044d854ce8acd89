"""Which weights a saved state, or a quantized folder, was made from."""

from __future__ import annotations

import hashlib
from pathlib import Path

END_BYTES = 1 << 18  # that are read at either end of a file


def fingerprint(folder: Path) -> str:
    """A digest that differs between models, quantizations and trainings: names, sizes and both ends of the files.

    The ends and not all 17.7 GB: this is asked at every start, and a training changes every tensor. Raises OSError.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            digest.update(file.read(END_BYTES))
            file.seek(max(0, size - END_BYTES))
            digest.update(file.read(END_BYTES))
    return digest.hexdigest()
