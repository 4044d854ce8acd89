"""simonw's `llm` as docs/server.md sets it up: an entry in its list of models, then its program and its library."""

from __future__ import annotations

import pytest

pytest.importorskip("llm", reason="the test extra is not installed")

import llm
from click.testing import CliRunner
from llm.cli import cli

QUESTION = "What is 12+7?"
GREEDY = ("-o", "temperature", "0")


@pytest.fixture(autouse=True)
def _listed(url, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    entry = f"- model_id: zaya\n  model_name: zaya\n  api_base: {url}\n"
    (tmp_path / "extra-openai-models.yaml").write_text(entry, encoding="utf-8")


def run(*arguments):
    """(exit code, stdout, stderr) of its program, in this process."""
    done = CliRunner().invoke(cli, [*arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("way", [(), ("--no-stream",)], ids=["streamed", "at once"])
def test_its_program_prints_the_answer_and_the_usage(way):
    code, out, err = run("-m", "zaya", *way, *GREEDY, "--usage", QUESTION)
    assert (code, out) == (0, "\\boxed{19}\n")
    assert "19 input, 18 output" in err and '"reasoning_tokens": 9' in err


def test_an_address_alone_is_enough(url):
    code, out, _ = run("openai", "endpoint", url, "--models")
    assert code == 0 and "demo" in out.split()
    code, out, _ = run("openai", "endpoint", url, "-m", "demo", *GREEDY, QUESTION)
    assert (code, out) == (0, "\\boxed{19}\n")


def test_a_conversation_goes_on():
    conversation = llm.get_model("zaya").conversation()
    first = conversation.prompt(QUESTION, temperature=0)
    assert first.text() == "\\boxed{19}"
    assert (first.usage().input, first.usage().output) == (19, 18)
    second = conversation.prompt("What is 3*4?", temperature=0)
    assert second.text() and second.usage().input > first.usage().input


def test_what_the_server_refuses_is_its_sentence():
    code, out, err = run("-m", "zaya", "1+1 " * 2000)
    assert code == 1 and out == ""
    assert "maximum context length is 4096 tokens" in err and "Traceback" not in err
