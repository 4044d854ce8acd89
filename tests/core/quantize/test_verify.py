"""`--verify` accepts whatever zaya itself made, however little it was calibrated on, and finds planted damage."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import zaya_core
from tests.core.quantized_models import source_folder
from zaya_core.errors import CheckpointError, UsageError
from zaya_core.quantize.calibration_text import read_calibration_text
from zaya_core.quantize.job import QuantizationJob, QuantizeSettings
from zaya_core.quantize.run import quantize
from zaya_core.quantize.verify import verify
from zaya_core.text.tokenizer import load_tokenizer

DEMO = Path(zaya_core.__file__).parent / "bundled" / "demo"
EXPERTS = "model.layers.0.mlp.experts."
FIRST, LAST = "model-00001-of-00006.safetensors", "model-00006-of-00006.safetensors"


def made(source, out, dense="int8", text=None):
    calibration = None if text is None else read_calibration_text(text, load_tokenizer(source))
    quantize(QuantizationJob(source, out, QuantizeSettings("int4", dense, calibration)), lambda progress: None)
    return out


def prose(characters):
    """Unlike the sums that the bundled model was trained on."""
    words = (zaya_core.__doc__ or "") + Path(__file__).read_text(encoding="utf-8") + "Ein anderer Text: été, naïve. "
    return (words * (characters // len(words) + 1))[:characters]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """Calibrated on about as little as is allowed."""
    folder = tmp_path_factory.mktemp("quantized")
    (folder / "text.txt").write_text(prose(800), encoding="utf-8")
    return made(DEMO, folder / "q", text=folder / "text.txt")


@pytest.mark.parametrize(("characters", "dense"), [(150, None), (4000, "int8")])
def test_what_zaya_made_is_accepted_however_thin_the_calibration_was(characters, dense, tmp_path):
    (tmp_path / "text.txt").write_text(prose(characters), encoding="utf-8")
    errors = list(verify(DEMO, made(DEMO, tmp_path / "q", dense, tmp_path / "text.txt")))
    assert {one.kind for one in errors} == {"int4", dense or "int4"}
    assert max(one.relative for one in errors) < 0.25


def test_rows_that_int8_and_int4_hold_badly_are_accepted_too(tmp_path):
    """A weight that is far larger than the rest of its row leaves the rest few steps."""
    source = source_folder(tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors["model.embed_tokens.weight"][:, 5] = 40
    flat = torch.full((64,), 0.49)
    flat[7] = 8.0
    tensors[EXPERTS + "gate_up_proj"][0] = flat
    save_file(tensors, source / "model.safetensors")
    errors = {one.name: one for one in verify(source, made(source, tmp_path / "q"))}
    assert errors[f"{EXPERTS}gate_up_proj[0]"].relative > 0.2


def change(name, edit):
    """Edit a tensor of the folder in place."""

    def damage(tensors):
        tensors[name] = edit(tensors[name].clone())

    return damage


def set_rows(value):
    def edit(tensor):
        tensor[3:5] = value
        return tensor

    return edit


def swap(one, other):
    def damage(tensors):
        for suffix in ("codes", "scales"):
            names = f"{one}.{suffix}", f"{other}.{suffix}"
            tensors[names[0]], tensors[names[1]] = tensors[names[1]].clone(), tensors[names[0]].clone()

    return damage


Q = "model.layers.0.self_attn.qkv_proj.q_proj.weight"
EMBED = "model.embed_tokens.weight"
DAMAGES = {
    "experts in another order": (FIRST, change(EXPERTS + "down_proj.codes", lambda t: t.roll(1, 0))),
    "two experts swapped, scales too": (
        FIRST,
        lambda tensors: [
            change(f"{EXPERTS}gate_up_proj.{s}", lambda t: t.flip(0))(tensors) for s in ("codes", "scales")
        ],
    ),
    "scales of another expert": (FIRST, change(EXPERTS + "gate_up_proj.scales", lambda t: t.roll(1, 0))),
    "every weight a tenth larger": (FIRST, change(EXPERTS + "gate_up_proj.scales", lambda t: t * 1.1)),
    "one expert halved": (FIRST, change(EXPERTS + "down_proj.scales", lambda t: torch.cat([t[:1] * 0.5, t[1:]]))),
    "signs turned": (FIRST, change(EXPERTS + "down_proj.scales", lambda t: -t)),
    "some codes zero": (
        FIRST,
        change(EXPERTS + "gate_up_proj.codes", lambda t: t.index_fill(1, torch.tensor(2), 0x88)),
    ),
    "codes shifted by a byte": (FIRST, change(EXPERTS + "down_proj.codes", lambda t: t.flatten().roll(1).view_as(t))),
    "a scale not a number": (FIRST, change(EXPERTS + "down_proj.scales", lambda t: t.fill_(torch.nan))),
    "queries and output swapped": (FIRST, swap(Q, "model.layers.0.self_attn.o_proj.weight")),
    "one int8 code off by two": (
        LAST,
        change(
            EMBED + ".codes",
            lambda t: t.flatten().index_add(0, torch.tensor([9]), torch.tensor([2], dtype=torch.int8)).view_as(t),
        ),
    ),
    "int8 scales of other rows": (LAST, change(EMBED + ".scales", lambda t: t.flip(0))),
    "two rows of a scale far off": (LAST, change(EMBED + ".scales", set_rows(0.3))),
    "a norm changed": (FIRST, change("model.layers.0.input_layernorm.weight", lambda t: t * 1.01)),
    "a residual scale infinite": (
        FIRST,
        change("model.layers.0.post_mlp_residual_scale.residual_scale", set_rows(torch.inf)),
    ),
    "a router of another layer": (FIRST, change("model.layers.0.mlp.gate.down_proj.weight", lambda t: t.flip(0))),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_planted_damage_is_found(name, quantized, tmp_path):
    file, damage = DAMAGES[name]
    folder = tmp_path / "q"
    shutil.copytree(quantized, folder)
    tensors = load_file(folder / file)
    damage(tensors)
    (folder / file).unlink()
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / file)
    with pytest.raises(CheckpointError, match="delete it and quantize again"):
        list(verify(DEMO, folder))


def test_the_undamaged_folder_is_accepted(quantized):
    assert list(verify(DEMO, quantized))


def test_a_folder_of_another_model_or_of_none_is_refused(quantized, tmp_path):
    other = source_folder(tmp_path / "other")
    with pytest.raises(CheckpointError, match="has other tensors than"):
        list(verify(other, quantized))
    with pytest.raises(UsageError, match="was not made by `zaya quantize`"):
        list(verify(DEMO, DEMO))


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
@pytest.mark.parametrize(
    "name",
    [
        "model.layers.1.post_attention_residual_scale.hidden_states_bias",
        "model.input_hidden_states_scale",
        "model.layers.0.mlp.gate.balancing_biases",
        "model.layers.2.self_attn.qkv_proj.conv_qk_grouped.weight",
    ],
)
def test_a_small_parameter_that_is_not_finite_is_refused_at_quantize_and_at_load(name, bad, spoiled, tmp_path):
    spoiled.spoil(name, bad)
    with pytest.raises(CheckpointError, match=f"{name} has values that are not finite"):
        made(spoiled.folder, tmp_path / "q")
    with pytest.raises(CheckpointError, match=f"{name} has values that are not finite"):
        zaya_core.load_model(spoiled.folder, device="cpu")


@dataclass(frozen=True)
class Spoiled:
    """A folder of which one value is spoiled, anew each time."""

    folder: Path
    good: dict[str, Tensor]

    def spoil(self, name, value):
        tensors = {key: tensor.clone() for key, tensor in self.good.items()}
        tensors[name].view(-1)[1] = value
        (self.folder / "model.safetensors").unlink()  # the old file may still be mapped
        save_file(tensors, self.folder / "model.safetensors")


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    folder = source_folder(tmp_path_factory.mktemp("spoiled") / "model")
    tensors = load_file(folder / "model.safetensors")
    return Spoiled(folder, {key: tensor.clone() for key, tensor in tensors.items()})
