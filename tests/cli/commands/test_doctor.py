"""`zaya doctor` names what it found, what is wrong and why, and never fails itself."""

from __future__ import annotations

import json
import sys

import pytest

from zaya_cli.commands import doctor
from zaya_cli.models.folder import BUNDLED
from zaya_core.load import load_model
from zaya_core.measure import self_test


@pytest.fixture
def report(zaya):
    """Findings by topic, the exit code, from `zaya doctor`."""

    def run(*arguments):
        result = zaya("doctor", "--format", "json", *arguments)
        findings: dict[str, list[dict[str, str]]] = {}
        for finding in json.loads(result.out):
            findings.setdefault(finding["topic"], []).append(finding)
        return findings, result.code

    return run


def test_everything_is_reported_and_the_self_test_passes(report):
    findings, code = report("--device", "cpu")
    assert code == 0
    assert set(findings) >= {"zaya", "libraries", "system", "threads", "memory", "PyTorch", "device", "kernels", "disk"}
    assert findings["self-test"][0]["state"] == "ok"
    assert findings["kernels"][0]["text"].startswith("CPU: ")


def test_the_text_is_a_block_of_plain_lines(zaya):
    result = zaya("doctor", "--no-self-test")
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out
    assert "self-test" not in result.out
    assert "4,096, 32,768, 131,072 tokens" in result.out


def test_the_table_says_for_each_format_whether_it_fits(report):
    findings, _ = report("--no-self-test")
    texts = [finding["text"] for finding in findings["fit"]]
    assert [text.split()[0] for text in texts[1:]] == ["bf16", "int8", "int4"]
    assert all(text.count(" GB ") == 3 for text in texts[1:])


def test_triton_is_listed_under_whichever_name_it_is_installed_and_with_its_variables(monkeypatch):
    known = {"torch": "2.13.0", "triton-windows": "3.7.1"}
    monkeypatch.setattr(doctor, "installed_version", lambda name=None: known.get(name))
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    findings = {finding.topic: finding.text for finding in (*doctor._versions(), *doctor._system())}
    assert findings["libraries"] == "torch 2.13.0, triton-windows 3.7.1"
    assert "TRITON_CACHE_DIR=/elsewhere" in findings["variables"]


def test_no_secret_is_printed(zaya, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", "http://example.invalid")
    out = zaya("doctor", "--no-self-test").out
    assert "hf_secret" not in out
    assert "HF_TOKEN=(set)" in out
    assert "HF_ENDPOINT=http://example.invalid" in out


def test_an_asked_for_card_that_is_missing_is_a_problem(report, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    findings, code = report("--device", "cuda", "--no-self-test")
    assert code == 1
    assert findings["device"][0]["state"] == "problem"


def test_a_pytorch_that_cannot_be_imported_is_a_finding(report, monkeypatch):
    for name in [name for name in sys.modules if name == "torch" or name.startswith(("zaya_core.", "quant"))]:
        if name not in ("zaya_core.errors",):
            package, _, module = name.rpartition(".")
            if package in sys.modules:  # what is imported meanwhile would stay its attribute
                monkeypatch.setattr(sys.modules[package], module, sys.modules[name], raising=False)
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    findings, code = report()
    assert code == 1
    assert "cannot be imported" in findings["device"][0]["text"]
    assert findings["disk"]


def test_a_damaged_configuration_is_a_problem_among_others(report, monkeypatch, tmp_path):
    (tmp_path / "config.toml").write_text("seed = [")
    monkeypatch.setenv("ZAYA_CONFIG", str(tmp_path / "config.toml"))
    findings, code = report("--no-self-test")
    assert code == 1
    assert findings["config"][0]["state"] == "problem"
    assert findings["disk"]


def test_a_part_that_fails_does_not_end_the_report(report, monkeypatch):
    monkeypatch.setattr(doctor, "_system", lambda: 1 / 0)
    findings, code = report("--no-self-test")
    assert code == 1
    assert "ZeroDivisionError" in findings["failure"][0]["text"]
    assert findings["disk"]


@pytest.mark.parametrize("disturbed", ["step", "not finite", "no folder"])
def test_the_self_test_fails_when_the_model_computes_wrongly(monkeypatch, tmp_path, disturbed):
    folder = BUNDLED / "demo"
    if disturbed == "no folder":
        folder = tmp_path
    real = load_model

    def load(*arguments):
        model = real(*arguments)
        forward = model.__call__

        class Wrong:
            device, new_cache = model.device, model.new_cache

            def __call__(self, ids, cache=None, **options):
                logits = forward(ids, cache, **options)
                if disturbed == "not finite":
                    return logits * float("nan")
                return logits + (ids.shape[1] == 1)

        return Wrong()

    monkeypatch.setattr(self_test, "load_model", load)
    result = self_test.self_test(folder, "cpu")
    assert not result.passed
    assert result.summary


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("ZAYA_CTX", "abc", "ZAYA_CTX is 'abc'; a whole number is needed."),
        ("ZAYA_QUANT", "int7", "ZAYA_QUANT: quant is 'int7'; it must be one of int4, int8, nf4."),
        ("ZAYA_GPU_MEMORY", "many", "ZAYA_GPU_MEMORY is 'many'; a number is needed."),
    ],
)
def test_a_variable_that_holds_no_value_is_a_problem_among_others(report, monkeypatch, name, value, sentence):
    monkeypatch.setenv(name, value)
    findings, code = report("--no-self-test")
    assert code == 1
    assert sentence in [one["text"] for one in findings["variables"] if one["state"] == "problem"]
    assert findings["disk"]
