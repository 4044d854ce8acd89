"""Numbers in words, the same in every command."""

from __future__ import annotations

from zaya_cli.sizes import duration, gibibytes, gigabytes


def test_durations_have_two_units():
    told = ["4 s", "1 min 0 s", "3 min 20 s", "1 h 0 min", "2 h 5 min"]
    assert [duration(seconds) for seconds in (4.4, 59.6, 200, 3599.6, 7500)] == told


def test_bytes_on_disks_are_decimal_and_those_of_a_process_binary():
    assert [gigabytes(nbytes) for nbytes in (0, 999, 1e3, 1e6, 1e8, 17.7e9)] == [
        "0 bytes", "999 bytes", "1.0 kB", "1.00 MB", "0.10 GB", "17.70 GB",
    ]  # fmt: skip
    assert gibibytes(3 << 30) == "3.00 GiB"
