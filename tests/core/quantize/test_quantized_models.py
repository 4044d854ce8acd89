"""A quantized model is the float model of its own dequantized weights; folders of others are read likewise."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.core.kernel_choice import chosen_kernels
from tests.core.quantized_models import dequantized_folder, quantized_folder, source_folder
from zaya_core.errors import CheckpointError, DeviceError
from zaya_core.load import load_model
from zaya_core.quantize.calibration_text import read_calibration_text
from zaya_core.quantize.job import QuantizeSettings
from zaya_core.text.tokenizer import load_tokenizer

pytest.importorskip("transformers")
IDS = torch.randint(3, 700, (2, 21), generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True, scope="module")
def _reference_products():
    with chosen_kernels("reference"):
        yield


def beginning_of_the_calibration_text(source):
    text = read_calibration_text(None, load_tokenizer(source))
    return replace(text, ids=text.ids[:24])


def equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("quantized")
    return {
        "native": source_folder(root / "native"),
        "original": source_folder(root / "original", "original"),
        "untied": source_folder(root / "untied", variant="untied_head_with_bias"),
        "biased": source_folder(root / "biased", variant="attention_bias"),
    }


@pytest.mark.parametrize("source", ["native", "original", "untied", "biased"])
@pytest.mark.parametrize(("experts", "dense"), [("int4", "int8"), ("int8", None), ("int4", "int4"), ("nf4", "int8")])
def test_a_quantized_model_equals_its_dequantized_one(folders, source, experts, dense, tmp_path):
    if experts == "nf4":
        pytest.importorskip("bitsandbytes")
    packed = quantized_folder(folders[source], tmp_path / "packed", QuantizeSettings(experts, dense))
    ours = load_model(packed, device="cpu")
    plain = load_model(dequantized_folder(packed, tmp_path / "plain"), device="cpu")
    whole = plain(IDS)
    equal(ours(IDS), whole)

    cache = ours.new_cache(2)
    in_chunks = [ours(IDS[:, start:stop], cache) for start, stop in ((0, 7), (7, 8), (8, 21))]
    equal(torch.cat(in_chunks, dim=1), whole)

    prompt = ours.new_cache(1)
    ours(IDS[:1, :9], prompt)
    forked = prompt.fork(2)
    equal(ours(IDS[:1, 9:].expand(2, -1), forked), whole[:1, 9:].expand(2, -1, -1))


def test_calibrated_weights_are_used_as_stored_in_both_layouts(folders, tmp_path):
    results = []
    for layout in ("native", "original"):
        text = beginning_of_the_calibration_text(folders[layout])
        settings = QuantizeSettings("int4", "int4", text)
        packed = quantized_folder(folders[layout], tmp_path / layout, settings)
        equal(
            load_model(packed, device="cpu")(IDS),
            load_model(dequantized_folder(packed, tmp_path / f"{layout} plain"), device="cpu")(IDS),
        )
        results.append(load_all(packed))
    assert results[0].keys() == results[1].keys()


def load_all(folder):
    return {name: tensor for shard in folder.glob("*.safetensors") for name, tensor in load_file(shard).items()}


def test_quantizing_keeps_what_is_small_bit_for_bit(folders, tmp_path):
    packed = load_all(quantized_folder(folders["native"], tmp_path / "packed", QuantizeSettings()))
    for name, tensor in load_all(folders["native"]).items():
        if name in packed:
            assert torch.equal(packed[name], tensor), name
        else:
            assert {f"{name}.codes", f"{name}.scales"} <= packed.keys()


def test_errors_fall_with_the_bits_and_with_calibration(tmp_path):
    """Mean divergence of the predictions from those of the unquantized model."""
    source = source_folder(tmp_path / "source", num_experts=2)
    text = beginning_of_the_calibration_text(source)
    ids = text.ids[:4, :128]
    base = load_model(source, device="cpu")(ids).log_softmax(-1)

    def divergence(name, settings):
        model = load_model(quantized_folder(source, tmp_path / name, settings), device="cpu")
        return float((base.exp() * (base - model(ids).log_softmax(-1))).sum(-1).mean())

    int8 = divergence("int8", QuantizeSettings("int8", None))
    searched = divergence("searched", QuantizeSettings("int4", None))
    calibrated = divergence("calibrated", QuantizeSettings("int4", None, text))
    assert 20 * int8 < searched
    assert calibrated < searched


EXPERTS = "model.layers.{layer}.mlp.experts.{name}"


def compressed_folder(source, out, kind, codes_name, scales_name):
    """The source with its experts as compressed-tensors stores them."""
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import FloatQuantizationCompressor, MXFP4PackedCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    if kind == "fp8":
        arguments = QuantizationArgs(num_bits=8, type="float", strategy="channel", symmetric=True)
        compressor, stored_as = FloatQuantizationCompressor, "weight"
    else:
        arguments = QuantizationArgs(num_bits=4, type="float", strategy="group", group_size=32, symmetric=True)
        arguments.scale_dtype = torch.uint8
        compressor, stored_as = MXFP4PackedCompressor, "weight_packed"
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    out.mkdir()
    for path in source.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    tensors, decompressed = load_file(source / "model.safetensors"), {}
    for name in [name for name in tensors if ".mlp.experts." in name]:
        codes, scales, plain = [], [], []
        for weight in tensors.pop(name):
            groups = weight if kind == "fp8" else weight.unflatten(1, (-1, 32))
            absmax = groups.abs().amax(-1, keepdim=kind == "fp8")
            scale = absmax / 448 if kind == "fp8" else (absmax / 6).log2().ceil().exp2()
            one = compressor.compress({"weight": weight, "weight_scale": scale}, scheme)
            codes.append(one[stored_as])
            scales.append(one["weight_scale"])
            plain.append(compressor.decompress(dict(one), scheme)["weight"].float())
        tensors[name + codes_name], tensors[name + scales_name] = torch.stack(codes), torch.stack(scales)
        decompressed[name] = torch.stack(plain)
    save_file(tensors, out / "model.safetensors")
    config = json.loads((out / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": scheme.model_dump(mode="json")},
        "ignore": ["re:^(?!.*experts).*$"],
        "quantization_status": "compressed",
    }
    (out / "config.json").write_text(json.dumps(config))
    return out, decompressed


@pytest.mark.parametrize(
    ("kind", "codes_name", "scales_name"),
    [
        ("fp8", "", ".weight_scale"),
        ("fp8", ".weight", ".weight_scale"),
        ("mxfp4", ".weight_packed", ".weight_scale"),
        ("mxfp4", "_packed", "_scale"),
    ],
)
def test_folders_of_compressed_tensors_load(folders, kind, codes_name, scales_name, tmp_path):
    packed, decompressed = compressed_folder(folders["native"], tmp_path / "packed", kind, codes_name, scales_name)
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_bytes((folders["native"] / "config.json").read_bytes())
    save_file({**load_file(folders["native"] / "model.safetensors"), **decompressed}, plain / "model.safetensors")
    model = load_model(packed, device="cpu")
    assert model.config.quantization is not None and model.config.quantization.experts == kind
    equal(model(IDS), load_model(plain, device="cpu")(IDS))


def damage(folder, change):
    shard = next(path for path in sorted(folder.glob("*.safetensors")))
    tensors = load_file(shard)
    change(tensors)
    save_file(tensors, shard)


CODES, SCALES = (EXPERTS.format(layer=0, name="down_proj") + end for end in (".codes", ".scales"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors: tensors.pop(SCALES), "missing: .*down_proj.scales"),
        (lambda tensors: tensors.update({SCALES: tensors[SCALES].float()}), "dtype that is not read.*scales is F32"),
        (lambda tensors: tensors.update({CODES: tensors[CODES][:1].clone()}), "misshapen: .*codes is"),
        (lambda tensors: tensors.update({CODES: tensors[CODES].view(torch.int8)}), "codes is I8"),
        (lambda tensors: tensors.update({CODES[:-6]: torch.zeros(2)}), "1 extra: "),
    ],
)
def test_a_quantized_folder_that_does_not_add_up_is_refused_by_name(folders, change, says, tmp_path):
    packed = quantized_folder(folders["native"], tmp_path / "packed", QuantizeSettings())
    damage(packed, change)
    with pytest.raises(CheckpointError, match=says):
        load_model(packed, device="cpu")


def test_a_format_whose_library_is_missing_is_one_sentence(folders, tmp_path, monkeypatch):
    pytest.importorskip("bitsandbytes")
    packed = quantized_folder(folders["native"], tmp_path / "packed", QuantizeSettings("nf4", "int8"))
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(DeviceError, match="pip install bitsandbytes"):
        load_model(packed, device="cpu")
