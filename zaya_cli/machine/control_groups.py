"""The control groups (Linux) of this process: its own and those above it, whose limits all hold.

`/proc/self/cgroup` names the group in each hierarchy, `/proc/self/mountinfo` says where the hierarchies are mounted and
which part of them is: in a container often only the process's own part, under a name that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Controller = Literal["memory", "cpu"]

_USUAL_MOUNT = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 of control groups writes a huge number for "no limit"
_OCTAL = re.compile(r"\\([0-7]{3})")  # how blanks are written in mountinfo


def memory_limit(proc: Path = Path("/proc/self"), mount: Path = _USUAL_MOUNT) -> tuple[int, int] | None:
    """(smallest limit, least that is left of any) in bytes, None without a limit."""
    found = [one for folder in group_folders("memory", proc, mount) if (one := _memory_of(folder)) is not None]
    return (min(limit for limit, _ in found), min(left for _, left in found)) if found else None


def cpu_quota(proc: Path = Path("/proc/self"), mount: Path = _USUAL_MOUNT) -> float | None:
    """How many processors' time is granted, None without a limit."""
    found = [one for folder in group_folders("cpu", proc, mount) if (one := _quota_of(folder)) is not None]
    return min(found, default=None)


def group_folders(controller: Controller, proc: Path, mount: Path) -> list[Path]:
    """The folders of the process's groups, its own first. Of both versions where both are mounted.

    mount: where groups are usually mounted, for a system that does not say.
    """
    paths = _group_paths(proc, controller)
    found = [
        folder
        for version, root, point in _mounts(proc, controller)
        if version in paths
        for folder in _way_up(paths[version], root, point)
    ]
    return found or [mount, mount / controller]


def _way_up(path: str, root: str, point: Path) -> Iterator[Path]:
    """From a group up to the mount point. root: the group that is mounted there."""
    inside = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
    parts = () if ".." in inside.parts else inside.parts  # a group outside of what this process may see
    yield from (point.joinpath(*parts[:length]) for length in reversed(range(len(parts) + 1)))


def _group_paths(proc: Path, controller: Controller) -> dict[int, str]:
    """By version. Lines are `0::/path` in version 2 and `5:cpu,cpuacct:/path` in version 1."""
    found = {}
    for line in _lines(proc / "cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found[2] = path
        elif controller in controllers.split(","):
            found[1] = path
    return found


def _mounts(proc: Path, controller: Controller) -> Iterator[tuple[int, str, Path]]:
    """(version, mounted group, mount point).

    A line is `id parent device root point options ... - type source options`.
    """
    for line in _lines(proc / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields, (kind, *options) = before.split(), after.split() or [""]
        if len(fields) < 5 or kind not in ("cgroup", "cgroup2"):
            continue
        if kind == "cgroup2" or controller in ",".join(options[1:]).split(","):
            root, point = (_OCTAL.sub(lambda match: chr(int(match[1], 8)), field) for field in fields[3:5])
            yield (2 if kind == "cgroup2" else 1), root, Path(point)


def _memory_of(folder: Path) -> tuple[int, int] | None:
    for most, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        limit, usage = (_whole(_text(folder / name)) for name in (most, used))
        if limit is not None and limit < _UNLIMITED:
            return limit, max(0, limit - (usage or 0) + _cached(folder))
    return None


def _cached(folder: Path) -> int:
    """Bytes of files that the system can give back at once. Sums over the groups below have a prefix in version 1."""
    stat = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat") if " " in line.strip())
    names = ("inactive_file", "active_file")
    return sum(_whole(stat.get(f"total_{name}", stat.get(name, ""))) or 0 for name in names)


def _quota_of(folder: Path) -> float | None:
    fields = _text(folder / "cpu.max").split() or [_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    quota, period = (_whole(field) for field in (*fields, "", "")[:2])
    return quota / period if quota and period else None  # "max" and -1 are no limit


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,20}", text.strip()) else None


def _text(path: Path) -> str:
    return "\n".join(_lines(path)).strip()


def _lines(path: Path) -> list[str]:
    """Of a file of the system; none where it is not there or is no text."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
