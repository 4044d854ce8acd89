"""`zaya quantize`, and the folders that it makes in `run` and `info`."""

from __future__ import annotations

import json

import pytest

from tests.core.quantized_models import source_folder
from tests.core.tiny_models import reference_model, save_native
from zaya_cli.models.quantized_folder import default_out, source_name


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    pytest.importorskip("transformers")
    return source_folder(tmp_path_factory.mktemp("source") / "model")


@pytest.fixture(autouse=True)
def data(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "data" / "zaya" / "models"


def test_quantize_then_run_with_quant(source, zaya, data):
    asked = ("run", "-p", "hi", "--model", source, "--quant", "int4", "--format", "json", "--max-tokens", "3")
    missing = zaya(*asked)
    assert (missing.code, missing.err.count("\n")) == (3, 1)
    assert f"zaya quantize --model {source} --format int4" in missing.err

    made = zaya("quantize", "--model", source)
    assert (made.code, made.out) == (0, f"{data / 'model-int4'}\n")
    assert "100 %" in made.err and " instead of " in made.err

    answered = zaya(*asked)
    assert answered.code == 0
    assert json.loads(answered.out)["quant"] == "int4"

    again = zaya("quantize", "--model", source)
    assert (again.code, again.out) == (2, "")
    assert "exists already" in again.err

    verified = zaya("quantize", "--model", source, "--verify")
    assert (verified.code, verified.out) == (0, made.out)
    assert "relative error" in verified.err and "fits its source" in verified.err


def test_info_says_how_a_folder_is_stored(source, zaya, tmp_path):
    zaya("quantize", "--model", source, "--format", "int8", "--dense", "bf16", "--out", tmp_path / "q", "--quiet")
    shown = zaya("info", tmp_path / "q")
    assert "int8 experts, bf16 attention and embedding; computed in float32" in shown.out
    assert "made from        model" in shown.out
    block = json.loads(zaya("info", tmp_path / "q", "--format", "json").out)["quantization"]
    assert (block["format"], block["dense"], block["rounding"]) == ("int8", "bf16", "to nearest")
    assert json.loads(zaya("info", source, "--format", "json").out)["quantization"] is None


def test_quiet_leaves_the_path_alone(source, zaya, tmp_path):
    made = zaya("quantize", "--model", source, "--calibrate", "none", "--out", tmp_path / "q", "--quiet")
    assert (made.code, made.out, made.err) == (0, f"{tmp_path / 'q'}\n", "")


def test_quant_of_a_quantized_folder_must_be_its_own(source, zaya, tmp_path):
    zaya("quantize", "--model", source, "--format", "int8", "--out", tmp_path / "q")
    asked = ("run", "-p", "hi", "--max-tokens", "1", "--model", tmp_path / "q", "--quant")
    assert zaya(*asked, "int8").code == 0
    other = zaya(*asked, "int4")
    assert other.code == 2
    assert "is quantized to int8, not to int4" in other.err


def test_a_folder_made_from_other_weights_is_not_used(source, zaya, data, tmp_path):
    zaya("quantize", "--model", source, "--calibrate", "none")
    other = source_folder(tmp_path / "elsewhere" / "model", seed=1, num_experts=2)
    refused = zaya("run", "-p", "hi", "--model", other, "--quant", "int4")
    assert refused.code == 2
    assert "was made from other weights" in refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--threads", "0"), 2, "--threads is 0"),
        (("--calibrate", "nowhere.txt"), 3, "nowhere.txt does not exist"),
        (("--out", "/dev/null/x"), 2, "cannot be written"),
        (("--model", "nowhere"), 3, "There is no folder nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(source, zaya, arguments, code, says):
    result = zaya("quantize", "--model", source, *arguments)
    assert (result.code, result.out) == (code, "")
    assert says in result.err
    assert result.err.count("\n") == 1


def test_a_model_that_cannot_be_grouped_is_one_sentence(zaya, tmp_path):
    narrow = save_native(reference_model("base"), tmp_path / "narrow")
    result = zaya("quantize", "--model", narrow, "--calibrate", "none")
    assert result.code == 2
    assert "is not a multiple" in result.err


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        (None, "models--Zyphra--ZAYA1-8B/snapshots/0123abcd", ("Zyphra/ZAYA1-8B", "0123abcd")),
        (None, None, ("Zyphra/ZAYA1-8B", None)),
        ("Zyphra/ZAYA1-base", None, ("Zyphra/ZAYA1-base", None)),
        ("demo", None, ("demo", None)),
    ],
)
def test_sources_are_named_as_people_name_them(name, folder, expected, tmp_path):
    found = source_name(name, tmp_path / folder if folder else None)
    assert (found.name, found.revision) == expected


def test_the_place_of_a_result_names_its_source_and_formats(data):
    source = source_name("Zyphra/ZAYA1-8B", None)
    assert default_out(source, "int4", "int8") == data / "Zyphra--ZAYA1-8B-int4"
    assert default_out(source, "int4", "bf16") == data / "Zyphra--ZAYA1-8B-int4-dense-bf16"
