"""The result of `zaya run` reaches somebody: full disks, readers that have gone, early stops, odd prompts, states."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import signal
import sys

import pytest
from rich.console import Console

from tests.cli.pseudo_terminal import Terminal
from tests.cli.rsa.test_rsa import SMALL, start
from tests.core.rsa.faulty_server import THOUGHT, Behaviour, served
from tests.core.rsa.scripted import Scripted, numbered
from zaya_cli.rsa.answer import agreement_line
from zaya_core.errors import UsageError
from zaya_core.rsa import RsaParams, solve
from zaya_core.rsa.saved import restore_rollouts, save_rollouts

RSA = shlex.split("--rsa 2 --rsa-rounds 1 --rsa-think 200 --rsa-tail 100 --rsa-answer 40 --seed 1")
ASK = ["run", "-p", "What is 2 + 3?", "-m", "demo", "--device", "cpu", "--seed", "1"]


class Refusing(io.StringIO):
    """A standard output that takes nothing."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def flush(self):
        if self.getvalue():
            self.seek(0)
            self.truncate()
            raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("more", "number", "code"),
    [
        (["--thinking", "hide"], errno.ENOSPC, 4),
        (["--format", "json"], errno.EFBIG, 4),
        (["--format", "json"], errno.EPIPE, 1),
        ([*RSA], errno.ENOSPC, 4),
        ([*RSA], errno.EPIPE, 1),
        ([*RSA, "--format", "json"], errno.EIO, 1),
        ([*RSA, "--format", "jsonl"], errno.ENOSPC, 4),
    ],
)
def test_what_stdout_does_not_take_is_on_stderr(zaya, monkeypatch, more, number, code):
    monkeypatch.setattr(sys, "stdout", Refusing(number))
    result = zaya(*ASK, *more)
    assert result.code == code
    assert "\\boxed{5}" in result.err.replace("\\\\", "\\")
    assert "the answer could not be written to standard output" in result.err
    assert "Unexpected" not in result.err and "Traceback" not in result.err


@pytest.mark.parametrize("more", [["--thinking", "hide"], ["--format", "jsonl"], [*RSA, "--format", "jsonl"]])
def test_a_reader_that_leaves_before_the_end_is_left_in_peace(zaya, monkeypatch, more):
    monkeypatch.setattr(sys, "stdout", Refusing(errno.EPIPE))
    result = zaya(*ASK, *more, "-q")
    assert (result.code, result.err) == (1, "")


@pytest.mark.parametrize("more", [["--thinking", "stderr"], [*RSA], [*RSA, "--format", "json", "--stats"]])
def test_a_log_on_a_full_disk_costs_no_answer(zaya, monkeypatch, more):
    monkeypatch.setattr(sys, "stderr", Refusing(errno.ENOSPC))
    result = zaya(*ASK, *more)
    assert result.code == 0
    assert "\\boxed{5}" in result.out.replace("\\\\", "\\")


@pytest.mark.parametrize("arguments", [["models"], ["config", "show"], ["run", "--help"]])
def test_a_full_disk_is_one_sentence_for_any_command(zaya, monkeypatch, arguments):
    monkeypatch.setattr(sys, "stdout", Refusing(errno.ENOSPC))
    result = zaya(*arguments)
    assert result.code == 4
    assert re.fullmatch(r"zaya: Standard output[^\n]+No space left[^\n]+\.\n", result.err)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------

LONG = ("--rsa-think", "20000", "--rsa-tail", "100", "--rsa-answer", "40", "--rsa-rounds", "12")


@pytest.mark.processes
def test_ctrl_c_before_any_candidate_is_done_says_that_there_is_no_answer(endless_folder):
    process = start(endless_folder, *LONG)
    assert "Markovian RSA" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, "")
    assert "there is no answer yet" in err
    assert "is done" not in err and "agree" not in err


@pytest.mark.processes
def test_ctrl_c_on_a_terminal_takes_the_table_away_and_says_that_there_is_no_answer(endless_folder, tmp_path):
    with Terminal("run", "-p", "hello", "-m", endless_folder, "--rsa", 4, *LONG, home=tmp_path) as terminal:
        terminal.wait_for("thinking")
        terminal.press("\x03")
        assert terminal.wait_for_end() == 130
        assert "there is no answer yet" in terminal.text
        assert "answer so far" not in terminal.text and "is done:" not in terminal.text


def test_ctrl_c_in_a_chat_before_there_is_an_answer_leaves_the_conversation_open(folder, monkeypatch):
    from zaya_cli.flags.generation import GenerationSettings
    from zaya_cli.rsa.answer import answer_with_rsa
    from zaya_core import Engine, load_model, load_tokenizer

    engine = Engine(load_model(folder, device="cpu"), load_tokenizer(folder))
    monkeypatch.setattr("zaya_cli.rsa.view.RsaView.take", lambda self, event: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr("os._exit", lambda code: None)  # of the second
    said = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        answer_with_rsa(engine, [{"role": "user", "content": "hi"}], 2, GenerationSettings(), 5, Console(file=said))
    assert "there is no answer yet" in said.getvalue()
    assert engine.is_idle


# --- how the answer was chosen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "settings", "line"),
    [
        ("7 7 8", {}, "2 of 3 agree on 7 after the first attempts"),
        ("7 8 9", {}, r"No two candidates agree after the first attempts; the likeliest answer is [789]"),
        ("7 8 9", {"select": "first"}, "No two candidates agree after the first attempts; the first answer is 7"),
        ("7", {}, "the one candidate gives 7 after the first attempts"),
        ("no no no", {}, "no answers to compare after the first attempts; the likeliest of 3 candidates"),
    ],
)
def test_the_last_line_says_how_far_candidates_agree(answers, settings, line):
    words = answers.split()
    params = RsaParams(candidates=len(words), rounds=0, **settings)
    question = [{"role": "user", "content": "?"}]
    result = solve(Scripted(lambda request: {"answer": words[request.candidate]}), question, params)
    assert re.fullmatch(line, agreement_line(result))


def test_the_last_line_says_that_later_rounds_gave_nothing():
    script = lambda request: {} if request.stage else {**numbered(request), "thinking": "it is 4"}  # noqa: E731
    result = solve(Scripted(script), [{"role": "user", "content": "?"}], RsaParams(candidates=2, rounds=2))
    assert agreement_line(result) == "2 of 2 agree on 4 after the first attempts (ended early)"


# --- prompts and states -----------------------------------------------------------------------------------------------


def test_a_prompt_that_is_no_utf_8_is_answered_saved_and_resumed(zaya, tmp_path):
    arguments = ["run", "-p", "What is 2 + 3? caf\udce9", "-m", "demo", "--system", "\ud83d", *RSA]
    first, again = (zaya(*arguments, "--rsa-save", tmp_path / "state") for _ in range(2))
    assert first.code == again.code == 0
    assert first.out == again.out != ""
    assert "4 rollouts are there from an earlier run" in again.err


@pytest.fixture
def identities(monkeypatch):
    """What every state that a command saves is known by."""
    seen: list = []

    def save(path, identity, rollouts):
        seen.append(identity)
        save_rollouts(path, identity, rollouts)

    monkeypatch.setattr("zaya_cli.rsa.run.save_rollouts", save)
    return seen


@pytest.mark.parametrize(
    ("more", "named"),
    [(["--rsa-pass", "answer"], "pass"), (["--rsa-prompt", "p.jinja"], "prompt"),
     (["--rsa-select", "aggregate"], "settings, last sampling")],
)  # fmt: skip
def test_a_state_of_other_settings_is_refused_by_what_differs(zaya, tmp_path, more, named):
    (tmp_path / "p.jinja").write_text("{{ question }} {{ candidates | join }}")
    assert zaya(*ASK, *RSA, "--rsa-save", "state").code == 0
    other = zaya(*ASK, *RSA, "--rsa-save", "state", *more)
    assert other.code == 2
    assert f"it differs in {named}:" in other.err


def test_a_state_from_before_there_was_a_choice_of_prompts_is_still_read(zaya, tmp_path, identities):
    first = zaya(*ASK, *RSA, "--rsa-save", "state")
    path, identity = tmp_path / "state/rsa.json", identities[-1]
    rollouts = restore_rollouts(path, identity)
    assert "passes" not in identity["settings"]
    assert [identity.pop(name) for name in ("pass", "prompt", "quant", "last sampling")] == [None] * 4
    path.unlink()
    save_rollouts(path, identity, rollouts)
    again = zaya(*ASK, *RSA, "--rsa-save", "state")
    assert (again.code, again.out) == (0, first.out)
    assert "4 rollouts are there" in again.err


def test_a_state_that_cannot_be_saved_costs_the_state_and_not_the_answer(zaya, monkeypatch):
    def full(*_):
        raise UsageError("state/rsa.json cannot be written: No space left on device.")

    monkeypatch.setattr("zaya_cli.rsa.run.save_rollouts", full)
    result = zaya(*ASK, *RSA, "--rsa-save", "state", "-q")
    assert (result.code, result.out) == (2, "\\boxed{5}\n")
    assert result.err.count("No space left on device. The run goes on.") == 2


def test_json_is_that_of_a_plain_run_for_a_quantized_model_too(zaya, tmp_path):
    assert zaya("quantize", "-m", "demo", "--format", "int8", "-o", tmp_path / "demo-int8").code == 0
    ask = ["run", "-p", "2+3", "-m", tmp_path / "demo-int8", "--seed", "1", "--threads", "1", "--format", "json"]
    plain, rsa = (json.loads(zaya(*ask, *more).out) for more in ([], RSA))
    assert set(rsa) == {*plain, "rsa"}
    for name in ("quant", "device", "dtype", "threads", "seed", "model"):
        assert rsa[name] == plain[name] is not None
    assert rsa["quant"] == "int8"
    for name in ("usage", "timings"):
        assert list(rsa[name]) == list(plain[name])
        assert all(value > 0 for key, value in rsa[name].items() if key != "cached_tokens")


# --- what is handed on ------------------------------------------------------------------------------------------------


@pytest.fixture
def chat_server(monkeypatch):
    pytest.importorskip("openai", reason="the endpoint extra is not installed")
    monkeypatch.setenv("NO_PROXY", "*")
    behaviour = Behaviour(has_completions=False)
    with served(behaviour) as url:
        yield behaviour, url


def ask_server(zaya, folder, server, *more):
    behaviour, url = server
    result = zaya("run", "-p", "hello", "-m", folder, "--rsa", 2, *SMALL, "--endpoint", url, "-q", *more)
    return result, [request["messages"][-1]["content"] for request in behaviour.seen if "messages" in request]


@pytest.mark.parametrize(
    ("passes", "shown"),
    [([], "\\boxed{3}"), (["--rsa-pass", "answer"], "\\boxed{3}"), (["--rsa-pass", "tail"], THOUGHT)],
)
def test_a_finished_candidate_hands_on_its_answer_unless_the_tail_is_asked_for(
    zaya, folder, chat_server, passes, shown
):
    result, asked = ask_server(zaya, folder, chat_server, *passes)
    assert result.out == "\\boxed{3}\n"
    for number in (1, 2):
        assert f"## Candidate {number}\n{shown}\n" in asked[-1]
    assert asked[-1].startswith("hello\n\n# Candidate solutions")
    assert asked[-1].endswith("End with the final answer in \\boxed{}.")


def test_a_prompt_of_one_s_own(zaya, folder, chat_server, tmp_path):
    (tmp_path / "p.jinja").write_text("{{ n }} for {{ question }}:{% for c in candidates %} [{{ c }}]{% endfor %}\n")
    result, asked = ask_server(zaya, folder, chat_server, "--rsa-prompt", "p.jinja")
    assert (result.code, asked[-1]) == (0, "2 for hello: [\\boxed{3}] [\\boxed{3}]")


def test_a_server_whose_second_round_is_empty_leaves_the_first_one_s_answer(zaya, folder, chat_server):
    def empty_later(number):
        if number > 3:  # two requests find out what it understands, two are the first round
            behaviour.chat_message = {"content": ""}

    behaviour, _ = chat_server
    behaviour.fault = empty_later
    result, _ = ask_server(zaya, folder, chat_server, "--rsa-parallel", "1")
    assert result.out == "\\boxed{3}\n"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ question }}\n{{ candidates }", "p.jinja, line 2: unexpected"),
        ("{{ question }}", "p.jinja: it must show both question and candidates, and lacks candidates"),
        ("{{ candidates }}", "lacks question"),
        ("", "lacks question"),
        ("{{ question }}\n\n{{ candidates[7] }}", "p.jinja, line 3: list object has no element 7"),
        ("{{ question }}\n{{ tails }}{{ candidates }}", "line 2: tails is not known here; question, candidates, n are"),
        ("{{ question }}{{ candidates[0] }}", "with 2 candidates it does not show candidate 2"),
        ("{{ question }}{{ candidates.__class__.__mro__ }}", "unsafe"),
        (
            "{{question}}{{ candidates }}{% for a in range(9**5) %}{% for b in range(9**4) %}{% endfor %}{% endfor %}",
            "too many steps",
        ),
        ("\ud800", "is not UTF-8"),
        (None, "does not exist"),
    ],
)
def test_a_prompt_file_that_cannot_be_used_is_one_sentence(zaya, tmp_path, template, words):
    if template is not None:
        (tmp_path / "p.jinja").write_bytes(template.encode("utf-8", "surrogatepass"))
    result = zaya(*ASK, "--rsa", 2, "--rsa-prompt", "p.jinja")
    assert (result.code, result.out) == (3 if template is None else 2, "")
    assert re.fullmatch(r"zaya: [^\n]+[.]\n", result.err), result.err
    assert words in result.err


@pytest.mark.parametrize(("more", "expected"), [([], (0.6, 0.95, 40)), (["-t", "0.3", "--top-k", "7"], (0.3, 0.95, 7))])
def test_the_last_attempt_over_all_is_sampled_as_its_makers_do_unless_flags_say_otherwise(
    zaya, identities, more, expected
):
    result = zaya(*ASK, *RSA, "--rsa-select", "aggregate", "--rsa-save", "state", *more)
    assert result.code == 0
    assert "one more attempt over 2 candidates gives" in result.err
    last = identities[-1]["last sampling"]
    assert (last["temperature"], last["top_p"], last["top_k"]) == expected


def test_the_bundled_model_keeps_the_prompt_that_it_was_trained_on(zaya, folder):
    settings = [json.loads(zaya("run", "-p", "2+3", "-m", model, "--rsa", 2, *SMALL, "--format", "json").out)
                ["rsa"]["settings"]["passes"] for model in ("demo", folder)]  # fmt: skip
    assert settings == ["tail", "auto"]
