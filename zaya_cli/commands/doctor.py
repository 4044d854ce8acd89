"""`zaya doctor`: what this machine and this installation are, with verdicts, as a block to paste into a bug report."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import psutil

from zaya_cli.commands.findings import guarded, report
from zaya_cli.flags.options import InfoKind
from zaya_cli.flags.settings import Setting, read_config_file, unknown_variables
from zaya_cli.machine.device_report import device_findings
from zaya_cli.machine.hardware import free_disk, memory_of, processor, system_memory
from zaya_cli.machine.kernels import kernel_findings
from zaya_cli.machine.threads import default_threads
from zaya_cli.machine.versions import installed_version
from zaya_cli.models import hub
from zaya_cli.models.folder import BUNDLED
from zaya_cli.sizes import gigabytes
from zaya_cli.user_files import config_file, history_file, quantized_models, sessions_folder
from zaya_core.errors import ZayaError
from zaya_core.files.write_errors import why_not_writable
from zaya_core.measure.checkup.finding import Finding
from zaya_core.redaction import is_secret_name

_LIBRARIES = (
    "torch", "safetensors", "tokenizers", "huggingface-hub", "transformers", "bitsandbytes",
    "triton", "triton-windows", "triton-rocm", "pytorch-triton-rocm",
)  # fmt: skip
_CONTEXTS = (4_096, 32_768, 131_072)
_PUBLISHED = {"model_type": "zaya", "layer_types": ["hybrid"] * 40}  # ZAYA1-8B: all other sizes are the defaults
_CARD_VARIABLES = ("CUDA_VISIBLE", "HIP_VISIBLE", "ROCR_VISIBLE", "GPU_DEVICE_ORDINAL", "HSA_OVERRIDE")
_VARIABLES = ("ZAYA_", "HF_", *_CARD_VARIABLES, "TRITON_", "OMP_", "ONEDNN_")


def doctor(
    settings: Mapping[str, Setting], wrong: Sequence[str], device: str, run_self_test: bool, format: InfoKind
) -> None:
    """Print the report, each part as soon as it is known. Raises SystemExit(1) if there is a problem.

    wrong: what is wrong with variables, in sentences.
    """
    report(_findings(settings, wrong, device, run_self_test), format)


def _findings(
    settings: Mapping[str, Setting], wrong: Sequence[str], device: str, run_self_test: bool
) -> Iterator[Finding]:
    """A part that fails is a finding, and the rest goes on."""
    parts: list[Callable[[], Iterator[Finding]]] = [
        _versions, _system, lambda: device_findings(device), lambda: kernel_findings(device, run_self_test), _disk,
        lambda: _configuration(settings, wrong), _models, lambda: _memory_fit(device),
    ]  # fmt: skip
    if run_self_test:
        parts.append(lambda: _self_test(device))
    yield from guarded(parts)


def _versions() -> Iterator[Finding]:
    found = {name: installed_version(name) for name in _LIBRARIES}
    python = f"Python {platform.python_version()} ({sys.executable})"
    yield Finding("zaya", f"{installed_version()} on {python}")
    yield Finding("libraries", ", ".join(f"{name} {number}" for name, number in found.items() if number))


def _system() -> Iterator[Finding]:
    yield Finding("system", f"{platform.platform()}, {processor()}")
    logical = os.cpu_count() or 1
    yield Finding("threads", f"{default_threads()} by default, of {logical} logical processors")
    memory = system_memory()
    swap = gigabytes(psutil.swap_memory().total)
    numbers = f"{gigabytes(memory.total)}, {gigabytes(memory.free)} free, swap {swap}"
    yield Finding("memory", f"{numbers} ({memory.place})")
    names = sorted(name for name in os.environ if name.startswith(_VARIABLES))
    shown = (f"{name}={'(set)' if is_secret_name(name) else os.environ[name]}" for name in names)
    yield Finding("variables", ", ".join(shown) or "none that matter here")


def _disk() -> Iterator[Finding]:
    written = {"hub cache": hub.cache_root(), "quantized models": quantized_models(), "sessions": sessions_folder()}
    for what, folder in {**written, "history": history_file().parent}.items():
        if (obstacle := why_not_writable(folder)) is not None:
            yield Finding(
                "disk", f"nothing can be written into the folder of the {what}, {folder}: {obstacle}", "problem"
            )
        elif what in ("hub cache", "quantized models"):
            yield Finding("disk", f"{gigabytes(free_disk(folder))} free for the {what}, {folder}")


def _configuration(settings: Mapping[str, Setting], wrong: Sequence[str]) -> Iterator[Finding]:
    yield from (Finding("variables", sentence, "problem") for sentence in wrong)
    for sentence in unknown_variables(settings):
        yield Finding("variables", sentence, "note")
    path = config_file()
    try:
        values = read_config_file(path, settings)
    except ZayaError as error:
        yield Finding("config", str(error), "problem")
        return
    yield Finding("config", f"{path} sets {', '.join(values)}" if values else f"{path} sets nothing")


def _models() -> Iterator[Finding]:
    from zaya_cli.models.choice import choose_for
    from zaya_cli.models.inventory import present_models

    models = present_models()
    for model in models:
        if model.place != "bundled":
            text = f"{model.name}, {model.format}, {gigabytes(model.nbytes)}"
            yield Finding("model", f"{text}: {model.problem}", "note") if model.problem else Finding("model", text)
    try:
        choice = choose_for("auto", models)
        yield Finding("default", f"{choice.model.name} ({choice.reason})")
    except ZayaError as error:
        yield Finding("default", str(error), "note")


def _memory_fit(device: str) -> Iterator[Finding]:
    """ZAYA1-8B in each format at some lengths of context, for the memory of the device."""
    from zaya_cli.models.fit_report import judged, longest_in
    from zaya_core.config.parse import parse_config
    from zaya_core.machine.memory_fit import REPORTED, packed_as, weight_bytes

    memory = memory_of(device)
    published = parse_config(_PUBLISHED)
    contexts = ", ".join(f"{context:,}" for context in _CONTEXTS)
    yield Finding("fit", f"ZAYA1-8B in {gigabytes(memory.total)} ({memory.place}) with {contexts} tokens of context:")
    for format in REPORTED:
        config, nbytes = packed_as(published, format), weight_bytes(published, format)
        found = [judged(config, nbytes, memory, context) for context in _CONTEXTS]
        words = " | ".join(f"{gigabytes(need.total)} {verdict}" for need, verdict in found)
        yield Finding("fit", f"{format:<5}{words} | at most {longest_in(config, nbytes, memory):,} tokens")


def _self_test(device: str) -> Iterator[Finding]:
    from zaya_core.kernels.resolve import products_in_use
    from zaya_core.measure.self_test import self_test

    products_in_use()  # what is wrong with them is named before a model asks for them
    result = self_test(BUNDLED / "demo", device)
    yield Finding("self-test", f"{result.summary} ({result.seconds:.1f} s)", "ok" if result.passed else "problem")
