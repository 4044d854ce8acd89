"""A file that is the old one or the whole new one, whatever happens while it is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, new: Path | None = None) -> Iterator[Path]:
    """The path of a file to write in the block, which takes the place of `path` when that ends well.

    new: where it is until then, in the same folder; None for a name of which only one process can make use at a time.
    After an error nothing is left of it; where the process is killed, it is. Raises OSError.
    """
    new = path.with_name(path.name + ".tmp") if new is None else new
    try:
        yield new
        put_in_place(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def put_in_place(new: Path, path: Path) -> None:
    """Give a file that is complete its name, once its bytes are on the disk. Raises OSError."""
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(new, path)
