"""The native library as programs of their own: on an emulated Arm processor, and under the sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec

import pytest
import torch

from quant.kernels.native import Format, supported_instruction_sets
from tests.native_build import cpp_files, programs
from tests.quant.test_native_products import Int4Case, Int8Case, spread

SETS = supported_instruction_sets()
COUNTS = (1, 13, 3)
N, K = 248, 192  # 16 tiles, the last of 8 columns: enough for a row to be multiplied by two in turns

pytestmark = [
    pytest.mark.builds,
    pytest.mark.skipif(not SETS, reason="zaya was installed without a C++ compiler"),
]


def instruction_sets(*command):
    return subprocess.run([*command, "list"], check=True, capture_output=True, text=True).stdout.split()


def run(command, format, name, x, tensors):
    words = [format, name, "2", str(K), str(N), str(int(x.dtype == torch.bfloat16)), *map(str, COUNTS)]
    data = b"".join(bytes(tensor.contiguous().view(torch.uint8).flatten().tolist()) for tensor in (x, *tensors))
    done = subprocess.run([*command, *words], input=data, check=True, capture_output=True)
    return torch.frombuffer(bytearray(done.stdout), dtype=torch.float32).view(len(x), N)


def expect_equal_bits(command, name):
    """The program's integer products have the bits of this process's plain C++."""
    torch.manual_seed(0)
    x = spread(sum(COUNTS), K)
    kinds: tuple[type[Int4Case] | type[Int8Case], ...] = (Int4Case, Int8Case)
    for case_of in kinds:
        cases = [case_of(N, K) for _ in COUNTS]
        weights, scales = [case.weights for case in cases], [case.scales for case in cases]
        format: Format = cases[0].format
        expected = SETS["portable"].matmul(format, x, weights, scales, COUNTS, N)
        tensors = [tensor for case in cases for tensor in (case.weights, case.scales)]
        assert torch.equal(run(command, cases[0].format, name, x, tensors), expected)


@pytest.fixture(scope="module")
def compiler():
    found = shutil.which("g++")
    if not found:
        pytest.skip("needs g++")
    return found


@pytest.fixture(scope="module")
def on_arm():
    compiler, emulator = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
    if not compiler or not emulator:
        pytest.skip("needs g++-aarch64-linux-gnu and qemu-user")
    built = programs(("products", "layer"), cpp_files(".cpp"), compiler, "-O2", "-static")
    return {name: (emulator, program) for name, program in built.items()}


@pytest.fixture(scope="module")
def sanitized(compiler, tmp_path_factory):
    flags = ("-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")  # compiles the fastest
    folder = tmp_path_factory.mktemp("sanitized")
    (folder / "nothing.cpp").write_text("int main() {}")
    program = [compiler, *flags, str(folder / "nothing.cpp"), "-o", str(folder / "nothing")]
    if subprocess.run(program, capture_output=True).returncode:
        pytest.skip("this compiler has no sanitizers")
    built = programs(("products", "layer"), cpp_files(".cpp"), compiler, *flags)
    return {name: (program,) for name, program in built.items()}


@pytest.fixture(scope="module")
def raced(compiler):
    """The loops' program, watched for races where this compiler and this system can."""
    sources = [path for path in cpp_files(".cpp") if path.name == "parallel.cpp"]
    for flags in (("-fsanitize=thread",), ()):
        try:
            program = programs(("parallel",), sources, compiler, "-O1", "-g", *flags)["parallel"]
        except subprocess.CalledProcessError:
            continue
        if starts(program):
            return program
    raise AssertionError("the program cannot be built")


def starts(program):
    """Whether the sanitizer can lay out its memory on this system; it says so in one line where it cannot."""
    done = subprocess.run([program, "1"], capture_output=True, text=True)
    return "unexpected memory mapping" not in done.stderr


@pytest.fixture(scope="module")
def plain_layer(compiler):
    """What the layer program prints with the library that is installed, without vector code, by what it is told."""
    spec = find_spec("quant.kernels._native")
    assert spec and spec.origin
    try:
        program = programs(("layer",), [], compiler, "-O1", libraries=[spec.origin])["layer"]
    except subprocess.CalledProcessError:  # macOS links nothing with an extension module
        program = programs(("layer",), cpp_files(".cpp"), compiler, "-O1")["layer"]
    return {words: run_layer((program,), "portable", *words) for words in LAYER_RUNS}


LAYER_RUNS = (("1", "0"), ("2", "1"), ("2", "2"))


def run_layer(command, name, threads, is_bf16):
    return subprocess.run([*command, name, threads, is_bf16], check=True, capture_output=True).stdout


def test_arm_gives_the_same_bits(on_arm, plain_layer):
    assert instruction_sets(*on_arm["products"]) == ["neon_dotprod", "portable"]
    for name in ("neon_dotprod", "portable"):
        expect_equal_bits(on_arm["products"], name)
        assert {words: run_layer(on_arm["layer"], name, *words) for words in LAYER_RUNS} == plain_layer


def test_the_sanitizers_find_nothing(sanitized, plain_layer):
    for name in instruction_sets(*sanitized["products"]):
        assert {words: run_layer(sanitized["layer"], name, *words) for words in LAYER_RUNS} == plain_layer
        expect_equal_bits(sanitized["products"], name)
        if SETS[name].has_bf16:
            x = torch.randn(sum(COUNTS), K).bfloat16()
            weights = [torch.randn(N, K).bfloat16() for _ in COUNTS]
            expected = SETS[name].matmul("bf16", x, weights, [], COUNTS, N)
            assert torch.equal(run(sanitized["products"], "bf16", name, x, weights), expected)


@pytest.mark.parametrize("threads", ["1", "2", "5", "17"])
def test_loops_do_every_item_once(raced, threads):
    done = subprocess.run([raced, threads], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
