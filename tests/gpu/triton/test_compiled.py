"""Kernels compiled for cards that are not here: all compile, spill nothing, and load weights as vectors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("triton")

from tests.gpu.triton.compiled import TARGETS, Report

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent.parent.parent
USUAL = ("sm_86", "gfx1100", "gfx942")
SHARED = 48 << 10  # bytes: what a program has on all cards without being asked for more
VECTORS = 0.4  # of a product: the least part of bits that are loaded 64 or 128 at once, as weights are

# By the beginning of a case and of a target: bytes of a thread that may go to memory, and why.
SPILLS = {
    ("angles", "sm_"): (32, "an array of libdevice's sin and cos, into which it reduces an angle of any size"),
    ("down int8 16", "sm_90"): (8, "one number is put aside before the loop, and read after it"),
    ("gate_up float32 16", "gfx1"): (4096, "no matrix units for float32; only small models have such weights"),
    ("gate_up float32 1024", "gfx1"): (4096, "as with 16 rows"),
    ("gate_up of float32 int4", "gfx11"): (96, "rounds x, and sizes are no constants; models of bfloat16 do not round"),
}
PRODUCTS = ("product", "gate_up", "down", "head")
WITHOUT_VECTORS = ("angles", "changed entries")  # 64 numbers a row; single logits here and there


def run(cache: Path, *arguments: str) -> str:
    """A process without the interpreter -> what it printed."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def compiled_for(targets: Iterable[str], words: Iterable[str], cache: Path) -> Iterator[Report]:
    """Cases with these words, two targets at a time."""
    with ThreadPoolExecutor(2) as pool:
        printed = pool.map(lambda one: run(cache / one, "-m", "tests.gpu.triton.compiled", one, *words), targets)
        for line in "".join(printed).splitlines():
            yield report_of(line)


def report_of(line: str) -> Report:
    """JSON has no numbers for names."""
    found = json.loads(line)
    return Report(**found | {"loads": {int(bits): count for bits, count in found["loads"].items()}})


def too_much(report: Report) -> Iterator[str]:
    """What is beyond the budget of a kernel."""
    allowed = [
        most
        for (case, on), (most, _) in SPILLS.items()
        if report.case.startswith(case) and report.target.startswith(on)
    ]
    if report.spilled > max(allowed, default=0):
        yield f"{report.case} on {report.target} spills {report.spilled} bytes"
    if report.shared > SHARED:
        yield f"{report.case} on {report.target} shares {report.shared} bytes"
    loads, is_product = report.loads.items(), report.case.startswith(PRODUCTS)
    vectors = sum(bits * count for bits, count in loads if bits >= 64)
    least = VECTORS * sum(bits * count for bits, count in loads) if is_product else 1
    if vectors < least and report.case not in WITHOUT_VECTORS:
        yield f"{report.case} on {report.target} does not load vectors: {report.loads}"


@pytest.mark.parametrize(
    ("targets", "words"),
    [pytest.param(USUAL, ["usual"], id="usual"), pytest.param(TARGETS, [], id="all", marks=pytest.mark.long)],
)
def test_kernels_keep_to_their_budgets(targets, words, tmp_path):
    found = list(compiled_for(targets, words, tmp_path))
    assert {report.target for report in found} == set(targets)
    assert not [one for report in found for one in too_much(report)]


PLANTED = """
import json
from dataclasses import asdict, replace
from tests.gpu.triton.cases import launches
from tests.gpu.triton.compiled import compiled, report
cases = dict(launches("sm_86"))
row, prompt = cases["product int4 1"], cases["gate_up int4 1024"]
x, codes, *others = row.arguments
for name, one in (
    ("product not aligned", replace(row, arguments=(x, codes.new_empty(codes.numel() + 1)[1:], *others))),
    ("gate_up one warp", replace(prompt, options={**prompt.options, "num_warps": 1})),
):
    print(json.dumps(asdict(report(name, "sm_86", compiled(one, "sm_86")))))
"""


def test_what_goes_wrong_is_seen(tmp_path):
    """Weights that begin anywhere are no vectors; too few threads for what they hold spill."""
    scattered, spilling = map(report_of, run(tmp_path, "-c", PLANTED).splitlines())
    assert "does not load vectors" in "".join(too_much(scattered))
    assert "spills" in "".join(too_much(spilling))


ANY_LENGTH = """
import torch
from unittest import mock
from quant.kernels.triton import choice
from quant.kernels.triton.product import product
from tests.gpu.triton.cases import META, floats, matrix
from tests.gpu.triton.compiled import compiled
from tests.gpu.triton.layer_cases import G, H, K, cache
from zaya_core.kernels.triton.prompt_attention import prompt_launch, prompt_shape

numbers = torch.zeros(70, dtype=torch.int64)


def attention(columns, blocks, at):
    query, kv = torch.zeros(1, columns, H, K), cache(torch.bfloat16)
    kv = type(kv)(*(torch.empty(2, *one.shape[1:], dtype=one.dtype) for one in (kv.keys, kv.values)))
    given = numbers[at : at + blocks][None], numbers[at : at + 1], numbers[at + 1 : at + 2]
    return prompt_launch(query, kv, *given, None, torch.empty_like(query), prompt_shape("sm_86", kv.keys.dtype))


with mock.patch.object(choice, "architecture", return_value="sm_86"):
    few, many = (
        [product(floats(rows, 64), matrix("int8", 64, 64), floats(rows, 64)) for rows in counts]
        for counts in ((2, 16), (17, 32))
    )
    chunks = [attention(1, 1, 0), attention(16, 16, 1), attention(17, 3, 2)]
    print(*(len({id(compiled(one, "sm_86")) for one in launches}) for launches in (few, many, chunks)))
"""


def test_prompts_of_any_length_are_computed_by_the_same_kernels(tmp_path):
    """Nothing is compiled anew for a chunk of 1 or 16 tokens, a row of 16 blocks, or where their numbers begin."""
    assert run(tmp_path, "-c", ANY_LENGTH).split() == ["1", "1", "1"]
