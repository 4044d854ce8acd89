"""Limits of control groups, in trees of files like those of the kernel: all on the way up hold, the smallest counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from zaya_cli.machine.control_groups import cpu_quota, memory_limit

MB = 1 << 20
SYSTEM = "0::/system.slice/job.scope/worker"


def write(folder: Path, **files: object) -> None:
    """Names with `__` for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def mounted(tmp_path: Path, groups: str, *mounts: str) -> tuple[Path, Path]:
    """(proc, mount) of a process in these groups; in `mounts` MOUNT stands for the mount point."""
    point = tmp_path / "cgroup"
    lines = [f"30 20 0:26 {line}" for line in mounts]
    write(tmp_path / "proc", cgroup=groups, mountinfo="\n".join(lines).replace("MOUNT", str(point)))
    return tmp_path / "proc", point


V2 = "/ MOUNT rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"


def v2(tmp_path: Path, groups: str = SYSTEM) -> tuple[Path, Path]:
    return mounted(tmp_path, groups, "/ / rw - ext4 /dev/sda rw", "/ /proc rw - proc proc rw", V2)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, None),
        ({"system.slice/job.scope/worker": (100, 30)}, (100, 70)),
        ({"system.slice": (100, 30)}, (100, 70)),
        ({"": (100, 30)}, (100, 70)),
        ({"system.slice": (100, 90), "system.slice/job.scope": (50, 10)}, (50, 10)),
        ({"system.slice": (50, 10), "system.slice/job.scope": (100, 10)}, (50, 40)),
        ({"system.slice/other": (10, 1), "user.slice": (10, 1)}, None),
        ({"system.slice": (50, 80)}, (50, 0)),
    ],
)
def test_the_smallest_memory_limit_on_the_way_up_counts(tmp_path, limits, expected):
    proc, mount = v2(tmp_path)
    for group in ("system.slice", "system.slice/job.scope", "system.slice/job.scope/worker"):
        write(mount / group, memory__max="max", memory__current=5 * MB)
    for group, (limit, used) in limits.items():
        write(mount / group, memory__max=limit * MB, memory__current=used * MB)
    found = memory_limit(proc, mount)
    assert found == (None if expected is None else (expected[0] * MB, expected[1] * MB))


def test_cached_files_of_a_group_count_as_free(tmp_path):
    proc, mount = v2(tmp_path)
    stat = f"anon {MB}\nactive_file {2 * MB}\ninactive_file {3 * MB}\nslab"
    write(mount / "system.slice", memory__max=10 * MB, memory__current=8 * MB, memory__stat=stat)
    assert memory_limit(proc, mount) == (10 * MB, 7 * MB)


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, None),
        ({"system.slice/job.scope/worker": "max 100000"}, None),
        ({"system.slice/job.scope/worker": "200000 100000"}, 2.0),
        ({"system.slice/job.scope": "50000 100000", "system.slice": "400000 100000"}, 0.5),
        ({"system.slice/job.scope": "max 100000", "system.slice": "150000 100000"}, 1.5),
        ({"system.slice": "nonsense"}, None),
        ({"system.slice": "100 0"}, None),
        ({"system.slice": ""}, None),
    ],
)
def test_the_smallest_quota_on_the_way_up_counts(tmp_path, quotas, expected):
    proc, mount = v2(tmp_path)
    for group, quota in quotas.items():
        write(mount / group, cpu__max=quota)
    assert cpu_quota(proc, mount) == expected


def test_version_one_has_a_hierarchy_for_each_controller(tmp_path):
    groups = "12:memory:/docker/abc/in\n5:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n0::/"
    proc, mount = mounted(
        tmp_path,
        groups,
        "/ MOUNT/memory rw - cgroup cgroup rw,memory",
        "/ MOUNT/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct",
        "/ MOUNT/unified rw - cgroup2 cgroup2 rw",
    )
    huge = (1 << 63) - 4096
    for group, limit in (("", huge), ("docker", huge), ("docker/abc", 60 * MB), ("docker/abc/in", huge)):
        write(mount / "memory" / group, memory__limit_in_bytes=limit, memory__usage_in_bytes=20 * MB)
    stat = f"active_file 0\ninactive_file 0\ntotal_active_file {MB}\ntotal_inactive_file {MB}"
    write(mount / "memory/docker/abc", memory__stat=stat)
    assert memory_limit(proc, mount) == (60 * MB, 42 * MB)
    write(mount / "cpu,cpuacct/docker", cpu__cfs_quota_us=300000, cpu__cfs_period_us=100000)
    write(mount / "cpu,cpuacct/docker/abc", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    assert cpu_quota(proc, mount) == 3.0


@pytest.mark.parametrize(
    ("group", "root", "place"),
    [
        ("0::/", "/", ""),
        ("0::/docker/abc", "/docker/abc", ""),
        ("0::/docker/abc/in", "/docker/abc", "in"),
        ("0::/../../elsewhere", "/", ""),
        ("0::/elsewhere", "/docker/abc", ""),
        ("0::/docker/abc def/in", "/docker/abc\\040def", "in"),
    ],
)
def test_a_container_sees_its_own_part_of_the_tree(tmp_path, group, root, place):
    proc, mount = mounted(tmp_path, group, f"{root} MOUNT rw - cgroup2 cgroup2 rw")
    write(mount / place, memory__max=7 * MB, memory__current=MB)
    assert memory_limit(proc, mount) == (7 * MB, 6 * MB)


def test_a_mount_point_with_a_blank_in_its_name_is_found(tmp_path):
    point = tmp_path / "control groups"
    write(
        tmp_path / "proc",
        cgroup="0::/",
        mountinfo=f"1 2 0:3 / {point}".replace(" groups", "\\040groups") + " rw - cgroup2 c rw",
    )
    write(point, cpu__max="100000 100000")
    assert cpu_quota(tmp_path / "proc", tmp_path) == 1.0


@pytest.mark.parametrize("files", [{}, {"cgroup": "0::/"}, {"cgroup": "?", "mountinfo": "short\n1 2 3 - \n - cgroup2"}])
def test_where_nothing_says_what_is_mounted_the_usual_places_are_tried(tmp_path, files):
    """Also on systems without any of it."""
    proc, mount = tmp_path / "proc", tmp_path / "cgroup"
    write(proc, **files)
    assert (memory_limit(proc, mount), cpu_quota(proc, mount)) == (None, None)
    write(mount, memory__max=9 * MB, memory__current=MB, cpu__max="100000 100000")
    assert (memory_limit(proc, mount), cpu_quota(proc, mount)) == ((9 * MB, 8 * MB), 1.0)


@pytest.mark.parametrize("content", ["max", "-1", "", "1e9", "٣", "9" * 5000])
def test_what_is_no_number_is_no_limit(tmp_path, content):
    proc, mount = v2(tmp_path)
    write(mount, memory__max=content, memory__current=content, cpu__max=f"{content} {content}")
    assert (memory_limit(proc, mount), cpu_quota(proc, mount)) == (None, None)
