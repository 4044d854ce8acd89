"""`zaya doctor --model`: whether everything is right with one model on this machine, as a block to paste."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from zaya_cli.commands.findings import guarded, report
from zaya_cli.flags.doctor import DoctorSettings
from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.machine.hardware import processor, system_memory
from zaya_cli.machine.versions import installed_version
from zaya_cli.models.choice import find_model
from zaya_cli.models.found import FoundModel
from zaya_cli.models.quantized_folder import SourceName, source_name
from zaya_cli.runtime import Runtime, open_runtime
from zaya_cli.sizes import dtype_name, gibibytes, gigabytes
from zaya_cli.terminal.progress import ProgressLine
from zaya_core.cache.arrangement import BLOCK
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.machine.memory import peak_memory_bytes
from zaya_core.measure.checkup.agreement import compare_with_reference, compare_with_steps
from zaya_core.measure.checkup.distributions import compare_logits
from zaya_core.measure.checkup.finding import Finding
from zaya_core.measure.checkup.golden import NOBODY, Known, known
from zaya_core.measure.checkup.likeliest import compare_likeliest
from zaya_core.measure.checkup.perplexity import judge_routers, judge_text, read_text
from zaya_core.measure.checkup.settings import check_settings
from zaya_core.measure.checkup.speed import measure_speed
from zaya_core.measure.checkup.tensors import check_tensors
from zaya_core.measure.checkup.text import readings
from zaya_core.measure.checkup.tokens import check_tokens
from zaya_core.model.model import ZayaModel
from zaya_core.text.tokenizer import load_tokenizer

_COLUMNS = 100  # of a line, so that a block keeps its form where it is pasted
_COMPARED = 12  # tokens that the float32 reference computes: it turns every expert they use to float32


def check_model(settings: DoctorSettings) -> None:
    """Print the report, each line as soon as it is known. Raises SystemExit(1) if there is a problem."""
    with ProgressLine() as progress:
        report(progress.beside(_findings(settings.runtime, progress)), settings.format, _COLUMNS)


def _findings(settings: RuntimeSettings, progress: ProgressLine) -> Iterator[Finding]:
    """What needs a part that failed is left out; the rest goes on."""
    started = time.perf_counter()
    folder = _Folder(settings, progress)
    yield from guarded([_machine, folder.find])
    if folder.found is not None:
        yield from guarded([folder.check_files, folder.check_tokens, folder.check_numbers, folder.load])
    if folder.loaded is not None:
        loaded = folder.loaded
        yield from guarded([loaded.compare_ids, loaded.read, loaded.measure, loaded.compare_ways])
    verify = "" if folder.repository is None else f"; `zaya models verify {folder.repository}` compares checksums"
    yield Finding("time", f"{time.perf_counter() - started:.0f} s{verify}")


def _machine() -> Iterator[Finding]:
    versions = f"zaya {installed_version()}, torch {torch.__version__}, Python {platform.python_version()}"
    yield Finding("zaya", f"{versions}, {platform.platform()}")
    yield Finding("machine", f"{processor()}, {gigabytes(system_memory().total)}")


@dataclass
class _Folder:
    """What the files of a model say. State: what is known so far, which stays as it is where a check fails."""

    settings: RuntimeSettings
    progress: ProgressLine
    found: FoundModel | None = None
    known: Known = NOBODY
    repository: str | None = None  # of the Hub, where its cache holds the files
    has_weights: bool = False
    has_tokens: bool = False
    loaded: _Loaded | None = None

    def find(self) -> Iterator[Finding]:
        """Which model it is, and what is known of it."""
        wanted = self.settings
        found = find_model(wanted.model, wanted.quant, wanted.device, wanted.context, wanted.kv)
        source, origin = source_name(found.name, found.path), _origin(found)
        names = [found.name, source.name, *([origin.name] if origin else [])]
        self.repository = source.name if source.revision else None
        self.found, self.known = found, known(found.config, names)
        made = f", made from {_named(origin)}" if origin else ""
        yield Finding("model", f"{_named(source)}{made}, {found.path}")
        yield Finding("judged", _judged(self.known))
        yield from check_settings(found.config, self.known)

    def check_files(self) -> Iterator[Finding]:
        """All headers against `config.json`."""
        assert self.found is not None
        folder, config = self.found.folder, self.found.config
        checkpoint = open_checkpoint(folder)
        self.has_weights = True
        stored = config.quantization.describe() if config.quantization else dtype_name(checkpoint.dtype)
        files = len(folder.weight_files)
        sizes = f"{gigabytes(folder.weight_bytes)} in {files} file{'s' * (files != 1)}"
        count = len(checkpoint.parameters)
        yield Finding("files", f"{config.layout} layout, {stored}; {sizes}, all {count:,} parameters")

    def check_tokens(self) -> Iterator[Finding]:
        """See `check_tokens`."""
        assert self.found is not None
        tokenizer = load_tokenizer(self.found.folder)
        self.has_tokens = True
        yield from check_tokens(tokenizer, self.found.config, self.known)

    def check_numbers(self) -> Iterator[Finding]:
        """All that is stored. The files are closed again, or their pages would count twice in the model's memory."""
        assert self.found is not None
        if self.has_weights:
            counting = self.progress.counting("reading the weights")
            yield from check_tensors(open_checkpoint(self.found.folder), self.known, counting)

    def load(self) -> Iterator[Finding]:
        """The model, as a command that answers would load it."""
        if not (self.has_weights and self.has_tokens):
            return
        self.progress.show("loading the model")
        runtime = open_runtime(self.settings)
        self.loaded = _Loaded(runtime, self.known, self.progress)
        model, threads = runtime.engine.model, runtime.threads
        dtype = dtype_name(model.dtype)
        kept = dtype if model.layout.kv == "auto" else model.layout.kv
        yield Finding("device", f"{model.placement_reason}; K/V {kept}")
        yield Finding("computed", f"{runtime.computed_by}, {threads} thread{'s' * (threads != 1)}")


@dataclass(frozen=True)
class _Loaded:
    """What a loaded model computes."""

    runtime: Runtime
    known: Known
    progress: ProgressLine

    @property
    def model(self) -> ZayaModel:
        """What computes."""
        return self.runtime.engine.model

    def compare_ids(self) -> Iterator[Finding]:
        """With published ids and logits."""
        self.progress.show("comparing known ids")
        yield from compare_likeliest(self.model, self.known)
        yield from compare_logits(self.model, self.known)

    def read(self) -> Iterator[Finding]:
        """A text, and how the tokens of it spread over the experts."""
        what, texts = readings(self.runtime.engine.tokenizer, self.known.golden)
        self.progress.show("reading a text")
        read = read_text(self.model, texts, self.progress.counting("reading a text"))
        yield from judge_text(read, what, self.model.config.vocab_size, self.known)
        yield judge_routers(read, self.known)

    def measure(self) -> Iterator[Finding]:
        """Memory and speed."""
        weights = gigabytes(self.runtime.folder.weight_bytes)
        peak = gibibytes(peak_memory_bytes(self.model.device))
        self.progress.show("measuring speed")
        speed = measure_speed(self.model)
        read = f"{gigabytes(speed.decode_case.bytes_per_step)} a step"
        if speed.read_bandwidth is not None:
            read += f", {speed.share_of_bandwidth:.0%} of {speed.read_bandwidth / 1e9:.1f} GB/s"
        yield Finding("speed", f"prompt {speed.prefill:,.1f} tok/s, decode {speed.decode:,.1f} tok/s ({read})")
        per_token = self.model.layout.bytes_per_block // BLOCK
        load = f"loaded in {self.runtime.load_seconds:.1f} s"
        yield Finding("memory", f"weights {weights}, K/V {per_token:,} bytes a token, peak {peak}; {load}")

    def compare_ways(self) -> Iterator[Finding]:
        """One pass, single steps, and float32 from the files."""
        _, texts = readings(self.runtime.engine.tokenizer, self.known.golden)
        ids = texts[0].ids[:_COMPARED]
        self.progress.show("comparing steps with one pass")
        whole, finding = compare_with_steps(self.model, ids)
        yield finding
        self.progress.show("computing the float32 reference")
        yield compare_with_reference(self.model.config, open_checkpoint(self.runtime.folder), ids, whole)


def _judged(known: Known) -> str:
    golden = known.golden
    if golden is None:
        return "by what holds for any model: by its sizes it is none whose numbers are published"
    if known.is_named:
        return f"by the numbers of {golden.name}, whose sizes{'' if golden.names is None else ' and name'} it has"
    return f"by what holds for any model: it has the sizes of {golden.name}, and another name"


def _origin(found: FoundModel) -> SourceName | None:
    """What a quantized folder says it was made from."""
    quantization = found.config.quantization
    source = None if quantization is None else quantization.facts.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("name"), str):
        return None
    revision = source.get("revision")
    return SourceName(source["name"], revision if isinstance(revision, str) else None)


def _named(source: SourceName) -> str:
    return source.name + (f" at {source.revision[:12]}" if source.revision else "")
