"""`zaya doctor --model` is one block to paste: what is right, what is not, and never a name of the person."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest

from demo.evaluate import BUNDLED
from tests.cli.hub_cache import COMMIT, repo_folder
from tests.core.measure.damaged import DAMAGES, damaged
from zaya_cli.commands.findings import report
from zaya_core.measure.checkup.finding import Finding
from zaya_core.measure.dummy import full_size_config

ORDER = [
    *("zaya", "machine", "model", "judged", "files", "tokenizer", "template", "token ids", "numbers", "device"),
    *("computed", "known ids", "greedy", "logits", "text", "routers", "speed", "memory", "steps", "reference", "time"),
]


@pytest.fixture(autouse=True)
def _quickly_read(monkeypatch):
    """1 MB of memory in place of 512 MB."""
    monkeypatch.setattr("zaya_core.measure.checkup.speed._BLOCK_BYTES", 1 << 20)


@pytest.fixture
def checked(zaya):
    """Findings of `zaya doctor --model`, and the exit code."""

    def run(*arguments):
        result = zaya("doctor", "--format", "json", *arguments)
        return json.loads(result.out), result.code

    return run


def texts(found, state):
    return {one["topic"]: one["text"] for one in found if one["state"] == state}


def test_a_model_that_is_right_is_one_block_without_a_mark(zaya):
    result = zaya("doctor", "--model", "demo", "--device", "cpu")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[-2:] == ["", "No problems. Lines marked ! are worth reading."]
    assert [line[2:12].strip() for line in lines[:-2] if line[2] != " "] == ORDER
    assert all(line.startswith("  ") and len(line) <= 100 for line in lines[:-2])
    assert len(lines) <= 27


@pytest.mark.parametrize("arguments", [("--kv", "int8"), ("--dtype", "float32"), ("--threads", "1", "--ctx", "100")])
def test_it_is_loaded_as_a_command_that_answers_would(checked, arguments):
    found, code = checked("--model", "demo", "--device", "cpu", *arguments)
    assert (code, texts(found, "problem"), texts(found, "note")) == (0, {}, {})
    told = texts(found, "ok")
    assert ("K/V int8" in told["device"]) == ("int8" in arguments)
    assert ("float32: asked for" in told["device"]) == ("float32" in arguments)
    assert told["computed"].endswith(", 1 thread") == ("1" in arguments)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_quantized_folder_says_what_it_was_made_from(zaya, checked, kind):
    assert zaya("quantize", "--model", "demo", "--format", kind, "--calibrate", "none", "-q").code == 0
    found, code = checked("--model", "demo", "--quant", kind)
    assert (code, texts(found, "problem"), texts(found, "note")) == (0, {}, {})
    told = texts(found, "ok")
    assert told["model"].startswith(f"demo-{kind}, made from demo, ")
    assert f"{kind} experts" in told["files"]


def unnumbered(text):
    return re.sub(r"\d[\d.,e-]*", "#", text)


@pytest.mark.parametrize(
    ("damage", "sentences"),
    [
        (
            "o_proj negated",
            {
                "known ids": "# of # likeliest as in its float# reference; at # # leads # by #: other weights, damaged "
                "files, or a fault of zaya",
                "greedy": "# of # that follow as in its float# reference; at # # leads # by #: other weights, damaged "
                "files, or a fault of zaya",
                "logits": "KL # from its float# reference, and # is the most for weights of # bits: damaged weights",
                "text": "perplexity # over # tokens of sums like its training's; # or less is healthy: something is "
                "damaged",
            },
        ),
        (
            "two experts swapped",
            {"logits": "KL # from its float# reference, and # is the most for weights of # bits: damaged weights"},
        ),
        (
            "noise on queries and keys",
            {"logits": "KL # from its float# reference, and # is the most for weights of # bits: damaged weights"},
        ),
    ],
)
def test_a_damaged_model_is_told_in_these_sentences(checked, tmp_path, damage, sentences):
    found, code = checked("--model", damaged(tmp_path / "mine", DAMAGES[damage]))
    assert code == 1
    assert {topic: unnumbered(text) for topic, text in texts(found, "problem").items()} == sentences
    assert {"steps", "reference"} <= texts(found, "ok").keys()  # it is computed rightly


def test_a_changed_temperature_is_named(checked, tmp_path):
    found, code = checked("--model", damaged(tmp_path / "mine", DAMAGES["temperature doubled"]))
    assert code == 1
    assert texts(found, "note")["numbers"] == (
        "unusual for the bundled demo: model.layers.2.self_attn.qk_norm.temp (4.72 to 4.91; 2.31 to 2.92 is usual)"
    )
    assert texts(found, "problem").keys() == {"logits"}


def test_a_setting_that_no_shape_shows_is_named(checked, tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "mine")
    config = json.loads((tmp_path / "mine/config.json").read_text())
    config["rope_parameters"]["hybrid"]["rope_theta"] = 500.0
    (tmp_path / "mine/config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-6}))
    found, code = checked("--model", tmp_path / "mine")
    assert code == 1
    assert texts(found, "problem")["settings"] == (
        "config.json is not that of the bundled demo: rms_norm_eps is 1e-06 in place of 1e-05, "
        "rope_theta is 500.0 in place of 10000.0"
    )


# --- what cannot be opened --------------------------------------------------------------------------------------------


def test_a_folder_whose_weights_cannot_be_opened_is_told_with_what_else_is_known(checked, tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "mine")
    os.truncate(tmp_path / "mine/model.safetensors", 1000)
    found, code = checked("--model", tmp_path / "mine")
    assert code == 1
    assert [one["topic"] for one in found if one["state"] == "problem"] == ["failure"]  # once
    assert "model.safetensors is damaged" in texts(found, "problem")["failure"]
    assert "token ids" in texts(found, "ok")
    assert "known ids" not in texts(found, "ok")


def test_a_sentence_about_a_thousand_tensors_leaves_a_block(zaya, checked, tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "mine")
    (tmp_path / "mine/config.json").write_text(json.dumps(full_size_config()))
    out = zaya("doctor", "--model", tmp_path / "mine").out
    assert len(out.splitlines()) < 25
    words = " ".join(out.split())
    assert " [...] " in words and "Download the files again, all of one revision." in words
    found, _ = checked("--model", tmp_path / "mine")
    assert "[...]" not in texts(found, "problem")["failure"]


def test_a_folder_without_a_tokenizer_is_told_with_what_else_is_known(checked, tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "mine")
    (tmp_path / "mine/tokenizer.json").unlink()
    found, code = checked("--model", tmp_path / "mine")
    assert code == 1
    assert "has no tokenizer" in texts(found, "problem")["failure"]
    assert [one["topic"] for one in found if one["state"] == "problem"] == ["failure"]  # once
    assert "numbers" in texts(found, "ok")
    assert "known ids" not in texts(found, "ok")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "nope"), "There is no folder nope"),
        (("--model", "demo", "--quant", "int8"), "zaya quantize --model demo --format int8"),
        (("--model", "demo", "--device", "tpu"), "device 'tpu' is not offered"),
        (("--model", "demo", "--threads", "0"), "--threads is 0"),
        (("--model", "demo", "--ctx", "1"), "--ctx is 1"),
    ],
)
def test_what_cannot_be_loaded_is_a_problem_in_one_sentence(checked, arguments, words):
    found, code = checked(*arguments)
    assert code == 1
    assert words in texts(found, "problem")["failure"]
    assert found[-1]["topic"] == "time"


# --- which model, and which flags -------------------------------------------------------------------------------------


def test_a_model_of_the_hubs_cache_has_its_revision(checked, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = repo_folder("somebody/zaya-toy")
    shutil.copytree(BUNDLED, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    found, code = checked("--model", "somebody/zaya-toy")
    assert code == 0
    told = texts(found, "ok")
    assert told["model"].startswith(f"somebody/zaya-toy at {COMMIT[:12]}, ")
    assert told["time"].endswith("`zaya models verify somebody/zaya-toy` compares checksums")


ZAYA = "by the numbers of ZAYA1-8B, whose sizes and name it has"
OTHER = "by what holds for any model: it has the sizes of ZAYA1-8B, and another name"


@pytest.mark.parametrize(
    ("source", "judged", "named"),
    [
        ({"name": "Zyphra/ZAYA1-8B", "revision": COMMIT}, ZAYA, f"mine, made from Zyphra/ZAYA1-8B at {COMMIT[:12]}, "),
        ({"name": "Zyphra/ZAYA1-base"}, OTHER, "mine, made from Zyphra/ZAYA1-base, "),
        ({"name": "ZAYA1-8B", "revision": 5}, ZAYA, "mine, made from ZAYA1-8B, "),
        ({"name": ["ZAYA1-8B"]}, OTHER, "mine, "),
        (None, OTHER, "mine, "),
    ],
)
def test_a_quantized_folder_of_any_name_is_judged_by_what_it_was_made_from(checked, tmp_path, source, judged, named):
    raw = full_size_config(experts="int4", dense="int8")
    raw["quantization"] |= {} if source is None else {"source": source}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text(json.dumps(raw))
    found, code = checked("--model", tmp_path / "mine")
    assert code == 1  # there are no weights
    assert texts(found, "ok")["judged"] == judged
    assert texts(found, "ok")["model"].startswith(named)


def test_nothing_names_the_person(zaya, monkeypatch, tmp_path):
    home = tmp_path / "home/ada.l"
    home.mkdir(parents=True)
    shutil.copytree(BUNDLED, home / "mine")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))
    result = zaya("doctor", "--model", home / "mine")
    assert result.code == 0
    assert "ada.l" not in result.out
    assert f"mine, ~{os.sep}mine" in result.out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{home}", "~"),
        ("{home}/a, {home}", "~/a, ~"),
        ("{home}-else/a {home}2 {home}.x", "{home}-else/a {home}2 {home}.x"),
        ("({home})", "(~)"),
    ],
)
def test_only_the_home_folder_itself_is_shortened(capsys, monkeypatch, tmp_path, text, shown):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    report([Finding("a", text.format(home=tmp_path))], "json")
    assert json.loads(capsys.readouterr().out)[0]["text"] == shown.format(home=tmp_path)


def test_a_service_at_home_in_the_root_has_its_paths_as_they_are(capsys, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    report([Finding("a", "/usr/bin /")], "json")
    assert json.loads(capsys.readouterr().out)[0]["text"] == "/usr/bin /"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kv", "int8"), "--kv says how a model is loaded: name one with --model"),
        (("--ctx", "100"), "--ctx says how a model is loaded"),
        (("--force",), "--force says how a model is loaded"),
        (("--gpu-memory", "3"), "--gpu-memory says how a model is loaded"),
        (("--cpu-experts", "3"), "--cpu-experts says how a model is loaded"),
        (("--model", "demo", "--self-test"), "with --model that one is tested"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(zaya, arguments, words):
    result = zaya("doctor", *arguments)
    assert (result.code, result.out) == (2, "")
    assert words in result.err


def test_a_model_that_a_variable_names_is_meant_for_other_commands(zaya, monkeypatch):
    monkeypatch.setenv("ZAYA_MODEL", "demo")
    monkeypatch.setenv("ZAYA_KV", "int8")
    out = zaya("doctor", "--no-self-test").out
    assert "known ids" not in out
    assert "disk" in out
