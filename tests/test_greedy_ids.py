"""The bundled model's greedy tokens are these, in every format, with every instruction set of the machine and torch.

int8 and int4 products have the same bits on all instruction sets, but norms, attention and the router do not, nor do
bf16 products: logits differ in last places. Ids do not: the likeliest leads by more than 1 at each of these steps.
"""

from __future__ import annotations

import pytest
import torch

from demo.evaluate import BUNDLED
from quant.kernels.native import supported_instruction_sets
from tests.core.kernel_choice import chosen_kernels
from zaya_core import load_model, load_tokenizer
from zaya_core.quantize.job import QuantizationJob, QuantizeSettings
from zaya_core.quantize.run import quantize

LEAD = 1.0
# fmt: off
GREEDY = {
    "What is (12+7)*3-40?": [
        371, 380, 381, 374, 386, 372, 373, 382, 376, 383, 379, 107, 380, 381, 374, 386, 392, 380, 388, 107, 380, 388,
        373, 382,
    ],
    "What is 17*23-5*(8+31)?": [
        380, 386, 373, 381, 382, 376, 384, 373, 371, 387, 374, 382, 380, 372, 107, 387, 374, 382, 380, 392, 382, 380,
        374, 387,
    ],
}
# fmt: on
KERNELS = [*(f"native:{name}" for name in supported_instruction_sets()), "torch"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("greedy")
    for kind in ("int8", "int4"):
        quantize(QuantizationJob(BUNDLED, root / kind, QuantizeSettings(kind, kind)), lambda progress: None)
    return {"bf16": BUNDLED, "int8": root / "int8", "int4": root / "int4"}


@pytest.fixture(scope="module")
def prompts():
    tokenizer = load_tokenizer(BUNDLED)
    return {question: tokenizer.render_chat([{"role": "user", "content": question}]) for question in GREEDY}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("kind", ["bf16", "int8", "int4"])
def test_the_greedy_ids_of_the_bundled_model_are_the_known_ones(folders, prompts, kind, kernels):
    with chosen_kernels(kernels):
        model = load_model(folders[kind], device="cpu")
        for question, known in GREEDY.items():
            found, lead = greedy(model, prompts[question], len(known))
            assert found == known
            assert lead > LEAD


def greedy(model, prompt, count):
    """So many ids, and the least that the likeliest was ahead of the next one."""
    cache = model.new_cache()
    logits = model(torch.tensor([prompt]), cache, last_only=True)[0, -1]
    found: list[int] = []
    lead = float("inf")
    while len(found) < count:
        first, second = logits.topk(2).values.tolist()
        lead = min(lead, first - second)
        found.append(int(logits.argmax()))
        logits = model(torch.tensor([found[-1:]]), cache)[0, -1]
    return found, lead
