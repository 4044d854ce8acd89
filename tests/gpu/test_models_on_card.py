"""Whole models of every format and kind on a card: the logits of the CPU's reference, in any order of work."""

from __future__ import annotations

import pytest
import torch

from tests.core.kernel_choice import chosen_kernels
from tests.core.kernels.variants import VARIANTS
from tests.core.quantize.test_quantized_models import compressed_folder
from tests.core.quantized_models import quantized_folder, source_folder
from tests.gpu.simulated_card import Card, simulated_cards
from tests.gpu.test_torch_path import requests
from zaya_core.engine.engine import Engine
from zaya_core.load import load_model
from zaya_core.measure.card_traffic import CardTraffic
from zaya_core.quantize.job import QuantizeSettings
from zaya_core.text.tokenizer import load_tokenizer

FORMATS = ["bf16", "int4", "int8", "nf4", "fp8", "mxfp4"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Of a format, or a kind of model; made when it is asked for."""
    root, made = tmp_path_factory.mktemp("models"), {}

    def folder_of(name):
        if name not in made:
            made[name] = _made(root, name)
        return made[name]

    return folder_of


def _made(root, name):
    if name in VARIANTS:
        layout, sizes = VARIANTS[name]
        return source_folder(root / name, layout, name, **sizes)
    source = source_folder(root / f"{name}.source")
    if name == "bf16":
        return source
    if name in ("fp8", "mxfp4"):
        codes = ".weight_packed" if name == "mxfp4" else ""
        return compressed_folder(source, root / name, name, codes, ".weight_scale")[0]
    return quantized_folder(source, root / name, QuantizeSettings(name, None if name == "nf4" else "int8"))


def expected_logits(folder, ids, lengths=None):
    with chosen_kernels("torch"):
        return load_model(folder, "cpu", "float32")(ids, lengths=lengths)


def near(found, expected):
    torch.testing.assert_close(found.cpu(), expected, atol=float(expected.std()) * 2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", [*FORMATS, *(name for name in VARIANTS if name != "base")])
def test_a_model_on_a_card_is_that_of_the_cpu_s_reference(request, folders, name):
    if name == "nf4":
        pytest.importorskip("bitsandbytes")
    folder = folders(name)
    ids = torch.randint(3, 130, (3, 12), generator=torch.Generator().manual_seed(1))
    lengths = [12, 5, 9]
    whole = expected_logits(folder, ids)
    with simulated_cards(Card()):
        model = load_model(folder, "cuda", "float32")
        near(model(ids), whole)
        cache = model.new_cache(3)
        padded = model(ids, cache, lengths).cpu()
        steps = [model(torch.stack([row[at] for row, at in zip(ids, ends, strict=True)])[:, None], cache).cpu()
                 for ends in ([11, 5, 9], [11, 6, 10])]  # fmt: skip
    for row, length in enumerate(lengths):
        near(padded[row, :length], whole[row, :length])
    for row, at in ((1, 5), (2, 9)):
        near(steps[0][row, 0], whole[row, at])
        near(steps[1][row, 0], whole[row, at + 1])


@pytest.mark.parametrize("name", FORMATS)
def test_in_bfloat16_a_card_is_as_near_as_a_cpu(folders, name):
    if name == "nf4":
        pytest.importorskip("bitsandbytes")
    folder, ids = folders(name), torch.randint(3, 130, (2, 12), generator=torch.Generator().manual_seed(1))
    exact = expected_logits(folder, ids)
    with chosen_kernels("torch"):
        on_cpu = load_model(folder, "cpu", "bfloat16")(ids)
    with simulated_cards(Card()):
        on_card = load_model(folder, "cuda", "bfloat16")(ids).cpu()
    spread = float(exact.std())
    error, usual = (float((one - exact).abs().mean()) / spread for one in (on_card, on_cpu))
    assert error < 1.5 * usual + 0.01


def test_the_float32_reference_computes_on_a_card_too(folders):
    ids = torch.randint(3, 130, (1, 9))
    exact = expected_logits(folders("int4"), ids)
    with chosen_kernels("reference"), simulated_cards(Card()):
        near(load_model(folders("int4"), "cuda")(ids), exact)


def test_of_two_cards_the_discrete_one_computes_and_the_other_is_not_touched(folders):
    folder = folders("int4")
    with simulated_cards(Card("iGPU", is_integrated=True), Card("RTX")) as (integrated, discrete):
        model = load_model(folder, "cuda")
        assert model.device == torch.device("cuda:1")
        with CardTraffic() as traffic:
            assert list(Engine(model, load_tokenizer(folder)).generate(requests(2)))
        del model
    assert integrated.peak == 0 < discrete.peak
    assert traffic.launches.total() > 100
