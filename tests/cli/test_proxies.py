"""Proxies that cannot be used, as the commands that need the network say it."""

from __future__ import annotations

import re

import pytest

from tests.cli.loopback_hub import REPO
from tests.core.rsa.faulty_server import Behaviour, served
from zaya_cli.models.folder import BUNDLED

RSA = ("run", "-p", "hello", "--rsa", 2, "--rsa-rounds", 1, "--rsa-think", 40, "--rsa-tail", 20, "--rsa-answer", 20)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return monkeypatch.setenv


@pytest.mark.parametrize(
    "value", ["socks://127.0.0.1:9", "http://me:secret@host:port", "socks5h://me:secret@127.0.0.1:9"]
)
@pytest.mark.parametrize(
    "command", [("pull", "--dry-run"), (*RSA, "-m", "demo", "--endpoint", "http://far.example/v1")]
)
def test_an_unusable_proxy_is_exit_code_7_and_one_sentence(zaya, environment, monkeypatch, value, command):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    pytest.importorskip("openai", reason="the endpoint extra is not installed")
    environment("ALL_PROXY", value)
    result = zaya(*command)
    assert (result.code, result.out) == (7, "")
    assert re.fullmatch(r"zaya: ALL_PROXY [^\n]+\.\n", result.err), result.err
    assert "secret" not in result.err


def test_a_server_on_this_machine_needs_no_proxy(zaya, environment):
    pytest.importorskip("openai", reason="the endpoint extra is not installed")
    environment("ALL_PROXY", "socks://127.0.0.1:9")
    environment("HTTP_PROXY", "http://127.0.0.1:9")
    with served(Behaviour()) as url:
        result = zaya(*RSA, "-m", "demo", "--endpoint", url, "-q")
    assert (result.code, result.out) == (0, "\\boxed{3}\n")


@pytest.fixture
def files():
    return {"model.safetensors": bytes(100), "config.json": (BUNDLED / "demo" / "config.json").read_bytes()}


def test_a_hub_on_this_machine_needs_no_proxy(zaya, environment, hub):
    environment("ALL_PROXY", "socks://127.0.0.1:9")
    environment("HTTP_PROXY", "http://127.0.0.1:9")
    result = zaya("pull", REPO, "--dry-run")
    assert result.code == 0, result.err


def test_a_proxy_that_does_not_answer_is_named(zaya, environment):
    environment("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    result = zaya("pull", "--dry-run", "some/repository")
    assert result.code == 7
    assert "through the proxy of HTTPS_PROXY" in result.err and "secret" not in result.err
