"""What quantization costs the bundled model: the second table of docs/quantization.md.

    python -m benchmarks.quantization_quality [--count 2000] [--likelihoods 500] [--problems SEED] [--only "int8 K/V"]

Each format is made by `zaya quantize`'s own code, its products are those of this machine (ZAYA_KERNELS chooses others).
Held-out problems, the same for all formats: greedy answers, right or wrong; and on worked solutions, token by token,
the divergence of the predictions from bf16's, the share of equal likeliest tokens and of equal choices of expert.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import zaya_core
from demo.evaluate import BUNDLED, interval, is_right, with_zaya
from demo.examples import thought_then_answer
from demo.problems import Problem, held_out, trace
from quant.formats import Format
from quant.int4 import pack_rounded
from quant.kernels.resolve import VARIABLE, cpu_products
from quant.rounding import round_plain
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.config.kv_format import KVFormat
from zaya_core.measure.choices import ChoiceRecorder
from zaya_core.model.model import ZayaModel
from zaya_core.quantize.calibration_text import read_calibration_text
from zaya_core.quantize.job import QuantizationJob, QuantizeSettings
from zaya_core.quantize.run import quantize
from zaya_core.text.token_names import THINK_END, TURN_END
from zaya_core.text.tokenizer import Tokenizer

_BATCH = 32


@dataclass(frozen=True)
class Variant:
    """A way to quantize. `plain`: experts to nearest with absmax/7, what the other int4 ways are compared with.

    experts: None leaves all weights as they are.
    """

    name: str
    experts: Format | None
    dense: Format | None
    is_calibrated: bool = False
    plain: bool = False
    kv: KVFormat = "auto"


VARIANTS = (
    Variant("int8", "int8", "int8"),
    Variant("int4, to nearest, absmax/7", "int4", "int8", plain=True),
    Variant("int4, scale searched (`--calibrate none`)", "int4", "int8"),
    Variant("**int4** (the default)", "int4", "int8", is_calibrated=True),
    Variant("int4, `--dense bf16`, to nearest, absmax/7", "int4", None, plain=True),
    Variant("int4, `--dense bf16`", "int4", None, is_calibrated=True),
    Variant("int4, `--dense int4`", "int4", "int4", is_calibrated=True),
    Variant("nf4", "nf4", "int8"),
    Variant("int8 K/V (`--kv int8`), bf16 weights", None, None, kv="int8"),
    Variant("int8 K/V, **int4**", "int4", "int8", is_calibrated=True, kv="int8"),
)


def make(variant: Variant, source: Path, out: Path, tokenizer: Tokenizer) -> Path:
    """The quantized folder, or the source where the weights stay."""
    if variant.experts is None:
        return source
    text = read_calibration_text(None, tokenizer) if variant.is_calibrated else None
    settings = QuantizeSettings(variant.experts, variant.dense, text)
    quantize(QuantizationJob(source, out, settings), lambda progress: None)
    if variant.plain:
        _round_experts_plainly(source, out)
    return out


def _round_experts_plainly(source: Path, out: Path) -> None:
    checkpoint = open_checkpoint(source)
    for shard in sorted(out.glob("*.safetensors")):
        tensors = load_file(shard)
        for name in sorted({key.rpartition(".")[0] for key in tensors if ".mlp.experts." in key}):
            packed = [pack_rounded(round_plain(weight)) for weight in checkpoint.experts(name)]
            tensors.update({f"{name}.{suffix}": torch.stack([one[suffix] for one in packed]) for suffix in packed[0]})
        save_file(tensors, shard, {"format": "pt"})


def predictions(model: ZayaModel, rows: list[list[int]], starts: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Of each row from its start on: log-probabilities (T, V), and the chosen experts (L, T)."""
    recorder = ChoiceRecorder(model.steps)
    model = replace(model, steps=recorder)
    found: list[Tensor] = []
    experts: list[Tensor] = []
    for first in range(0, len(rows), _BATCH):
        batch, batch_starts = rows[first : first + _BATCH], starts[first : first + _BATCH]
        width = max(map(len, batch))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in batch])
        recorder.choices.clear()
        logits = model(ids, lengths=[len(row) for row in batch]).log_softmax(-1)
        by_layer = torch.stack(recorder.choices).view(-1, len(batch), width)
        for i, (row, start) in enumerate(zip(batch, batch_starts, strict=True)):
            found.append(logits[i, start - 1 : len(row) - 1].clone())
            experts.append(by_layer[:, i, start - 1 : len(row) - 1].clone())
    return found, experts


def differences(base: tuple[list[Tensor], list[Tensor]], other: tuple[list[Tensor], list[Tensor]]) -> dict[str, float]:
    """Means over all tokens."""
    reference, predicted = torch.cat(base[0]), torch.cat(other[0])
    kl = (reference.exp() * (reference - predicted)).sum(-1)
    same = reference.argmax(-1) == predicted.argmax(-1)
    routes = torch.cat(base[1], 1) == torch.cat(other[1], 1)
    return {
        "mean_kl": float(kl.mean()),
        "same_top": float(same.float().mean()),
        "same_expert": float(routes.float().mean()),
        "tokens": len(kl),
    }


def paired(rights: list[bool], base: list[bool]) -> tuple[float, float]:
    """Mean difference of accuracies and half of its 95 % interval, problem by problem."""
    gains = torch.tensor(rights).float() - torch.tensor(base).float()
    return float(gains.mean()), float(1.96 * gains.std() / len(gains) ** 0.5)


def worked_rows(problems: list[Problem], tokenizer: Tokenizer) -> tuple[list[list[int]], list[int]]:
    """Each problem with its worked solution as ids, and where the solution begins."""
    rows, starts = [], []
    for problem in problems:
        prompt = tokenizer.render_chat([{"role": "user", "content": problem.question}])
        thinking, _, answer = thought_then_answer(trace(problem.expression)).partition(THINK_END)
        end = [tokenizer.think_end_id] if tokenizer.think_end_id is not None else tokenizer.encode(THINK_END)
        rows.append([*prompt, *tokenizer.encode(thinking), *end, *tokenizer.encode(answer.removesuffix(TURN_END))])
        starts.append(len(prompt))
    return rows, starts


@dataclass(frozen=True)
class Yardstick:
    """The unquantized model's predictions on worked solutions, and its answers."""

    problems: list[Problem]
    rows: list[list[int]]
    starts: list[int]
    predicted: tuple[list[Tensor], list[Tensor]]
    rights: list[bool]

    @classmethod
    def of(cls, model: Path, count: int, likelihoods: int, seed: int, tokenizer: Tokenizer) -> Yardstick:
        problems = held_out(max(count, likelihoods), seed)
        rows, starts = worked_rows(problems[:likelihoods], tokenizer)
        predicted = predictions(zaya_core.load_model(model, device="cpu"), rows, starts)
        return cls(problems[:count], rows, starts, predicted, rights_of(model, problems[:count]))

    def measure(self, folder: Path, kv: KVFormat) -> dict[str, float]:
        """All figures of a quantized folder."""
        found = predictions(zaya_core.load_model(folder, device="cpu", kv=kv), self.rows, self.starts)
        figures = differences(self.predicted, found)
        if self.problems:
            rights = rights_of(folder, self.problems, kv)
            gain, half = paired(rights, self.rights)
            figures |= {"accuracy": sum(rights) / len(rights), "gain": gain, "half_interval": half}
        return figures


def predictions_with(
    kernels: str, folder: Path, rows: list[list[int]], starts: list[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """The predictions of a model whose products and steps ZAYA_KERNELS names."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = kernels
    cpu_products.cache_clear()
    try:
        return predictions(zaya_core.load_model(folder, device="cpu", dtype="float32"), rows, starts)
    finally:
        os.environ.pop(VARIABLE)
        os.environ.update({} if before is None else {VARIABLE: before})
        cpu_products.cache_clear()


def cost_of_native_steps(folder: Path, rows: list[list[int]], starts: list[int]) -> dict[str, float]:
    """What rounding activations to int8 and the fused steps cost: the same weights by float32 products and torch."""
    return differences(
        predictions_with("reference", folder, rows, starts), predictions_with("auto", folder, rows, starts)
    )


def rights_of(folder: Path, problems: list[Problem], kv: KVFormat = "auto") -> list[bool]:
    """Whether each greedy answer is right."""
    texts = with_zaya(folder, "auto", kv)([problem.question for problem in problems], 0.0, 0) if problems else []
    return [is_right(problem, text) for problem, text in zip(problems, texts, strict=True)]


def table_row(name: str, found: dict[str, float]) -> str:
    row = f"| {name} | {found['mean_kl']:.2e} | {found['same_top']:.2%} | {found['same_expert']:.2%} |"
    if "accuracy" in found:
        gain = f"{100 * found['gain']:+.1f} ± {100 * found['half_interval']:.1f} points"
        row += f" {found['accuracy']:.1%} | {gain} |"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--count", type=int, default=2000, help="problems to answer; 0 leaves the answers out")
    parser.add_argument("--likelihoods", type=int, default=500, help="problems to compare token by token")
    parser.add_argument("--problems", type=int, default=1, help="seed of the problems")
    parser.add_argument("--only", default="", help="formats whose name in the table has this in it")
    arguments = parser.parse_args()
    tokenizer = zaya_core.load_tokenizer(arguments.model)
    yardstick = Yardstick.of(arguments.model, arguments.count, arguments.likelihoods, arguments.problems, tokenizer)
    print("| format | mean KL | same top token | same expert | right | difference to bf16 |\n|---|--:|--:|--:|--:|--:|")
    if yardstick.rights:
        low, high = interval(sum(yardstick.rights), len(yardstick.rights))
        accuracy = sum(yardstick.rights) / len(yardstick.rights)
        print(f"| bf16 | | | | {accuracy:.1%} ({low:.1%} to {high:.1%}) | |", flush=True)
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, variant in enumerate(one for one in VARIANTS if arguments.only in one.name):
            folder = make(variant, arguments.model, Path(scratch) / str(number), tokenizer)
            results[variant.name] = yardstick.measure(folder, variant.kv)
            print(table_row(variant.name, results[variant.name]), flush=True)
            if variant.experts in ("int8", "int4") and variant.dense and not variant.plain and variant.kv == "auto":
                name = f"{variant.name}: native steps against float32 ones"
                results[name] = cost_of_native_steps(folder, yardstick.rows, yardstick.starts)
                print(table_row(name, results[name]), flush=True)
    print(json.dumps({"results": results, "count": arguments.count, "products": cpu_products().name}))


if __name__ == "__main__":
    main()
