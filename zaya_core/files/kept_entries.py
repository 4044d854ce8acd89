"""What was found out of a machine, in a small sealed file: a list of entries, each naming the machine that it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zaya_core.errors import ZayaError
from zaya_core.files.bounded_file import read_file
from zaya_core.files.private_file import write_bytes_atomically
from zaya_core.files.sealed_json import sealed, unsealed

_MOST_BYTES, _MOST_KEPT = 1 << 20, 64

Entry = dict[str, Any]


@dataclass(frozen=True)
class KeptEntries:
    """Those of a file under a name. `machine` of an entry is a list of all that it depends on."""

    path: Path
    name: str

    def read(self) -> list[Entry]:
        """Those that name a machine; none where there is no file, or it is damaged."""
        try:
            if not self.path.is_file():  # a pipe would be waited for
                return []
            entries = unsealed(read_file(self.path, _MOST_BYTES)).get(self.name)
        except (OSError, ZayaError, ValueError):
            return []
        entries = entries if isinstance(entries, list) else []
        return [one for one in entries if isinstance(one, dict) and isinstance(one.get("machine"), list)]

    def write(self, others: Sequence[Entry], new: Entry) -> str | None:
        """The new one behind the last of the others, in their place; why that could not be, None where it could."""
        try:
            write_bytes_atomically(self.path, sealed({self.name: [*others[1 - _MOST_KEPT :], new]}))
        except OSError as error:
            return error.strerror or str(error)
        return None
