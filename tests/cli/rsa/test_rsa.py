"""`zaya run --rsa` as people and scripts use it: streams, JSON, signals, a killed run, a server."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from tests.core.rsa.faulty_server import THOUGHT, Behaviour, served
from zaya_cli.rsa.view import RsaView, estimate, opening_lines
from zaya_core.rsa import RsaParams
from zaya_core.rsa.events import BudgetsShrank, RunStarted
from zaya_core.rsa.params import PRESETS, PromptSizes
from zaya_core.rsa.rollouts import (
    Rollout,
    RolloutFinished,
    RolloutMoved,
    RolloutReturned,
    RolloutSilent,
    RolloutStarted,
    RolloutText,
)

SMALL = shlex.split("--rsa-think 24 --rsa-tail 16 --rsa-answer 5 --rsa-rounds 1 --rsa-subset 2 --threads 1")
PLAIN_FIELDS = {
    *("text", "thinking", "finish_reason", "usage", "timings", "seed", "model", "quant", "device", "dtype", "threads")
}


def ask(zaya, folder, *more, seed=3, n=3, **settings):
    return zaya("run", "-p", "hello", "-m", folder, "--rsa", n, "--seed", seed, *SMALL, *more, **settings)


def start(folder, *more, n="4"):
    command = [sys.executable, "-m", "zaya_cli.app", "run", "-p", "hello", "-m", str(folder), "--rsa", n, "--seed", "3"]
    return subprocess.Popen(
        [*command, *SMALL, *map(str, more)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(process, event):
    """Read events until the first of this name."""
    for line in process.stdout:
        if json.loads(line)["event"] == event:
            return json.loads(line)
    raise AssertionError(process.stderr.read())


def comparable(value):
    """What must repeat in another process: all but times, reused tokens and last bits of log-probabilities."""
    may_differ = {"seconds", "prompt_seconds", "decode_seconds", "mean_logprob", "cached_tokens"}
    candidates = [{key: v for key, v in one.items() if key not in may_differ} for one in value["rsa"]["candidates"]]
    return value["text"], value["thinking"], value["rsa"]["agreeing"], candidates


def test_stdout_is_the_chosen_answer_and_nothing_else(zaya, folder):
    value = json.loads(ask(zaya, folder, "--format", "json").out)
    result = ask(zaya, folder)
    assert result.code == 0
    assert result.out == value["text"].strip("\n") + "\n"
    assert "\x1b" not in result.err
    assert "6 rollouts" in result.err
    assert "stage 2 of 2 is done" in result.err


def test_json_keeps_the_fields_of_a_plain_run_and_adds_every_candidate(zaya, folder):
    value = json.loads(ask(zaya, folder, "--format", "json").out)
    assert set(value) == {*PLAIN_FIELDS, "rsa"}
    candidates = value["rsa"]["candidates"]
    assert [(one["stage"], one["candidate"]) for one in candidates] == [(s, c) for s in (0, 1) for c in range(3)]
    needed = {
        "subset",
        "seed",
        "tail",
        "extracted",
        "completion_tokens",
        "mean_logprob",
        "seconds",
        "state",
        "thinking",
    }
    assert all(needed <= set(one) for one in candidates)
    assert value["usage"]["completion_tokens"] == sum(one["completion_tokens"] for one in candidates)
    assert set(json.loads(zaya("run", "-p", "x", "-m", folder, "-n", "3", "--format", "json").out)) == PLAIN_FIELDS
    assert value["seed"] == 3


def test_jsonl_tells_what_happens(zaya, folder):
    events = [json.loads(line) for line in ask(zaya, folder, "--format", "jsonl").out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "rsa_started"
    assert kinds[-1] == "finished"
    assert kinds.count("rollout_started") == kinds.count("rollout_finished") == 6
    assert [event["stage"] for event in events if event["event"] == "stage_finished"] == [0, 1]
    assert {event["prompt"] for event in events} == {0}


def test_several_prompts_are_answered_in_order(zaya, folder, tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    result = zaya("run", "a.txt", "b.txt", "-m", folder, "--rsa", 2, *SMALL, "--format", "json", "--seed", 1)
    assert [value["prompt_file"] for value in json.loads(result.out)] == ["a.txt", "b.txt"]


def test_budgets_shrink_to_the_context_and_that_is_said_with_the_numbers(zaya, folder):
    result = zaya("run", "-p", "hello", "-m", folder, "--rsa", 2, "--rsa-rounds", 1, "--seed", 1)
    assert result.code == 0
    assert re.search(r"context of 300 tokens, .* leaves [\d,]+ for the thinking \(of 16,384\)", result.err)


def test_a_question_that_leaves_no_room_is_exit_code_6(zaya, folder):
    result = zaya("run", "-p", "x " * 100, "-m", folder, "--rsa", 8)
    assert (result.code, result.out) == (6, "")
    assert re.fullmatch(r"zaya: [^\n]+[.]\n", result.err)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rsa", "0"], "--rsa must be at least 1"),
        (["--rsa", "4", "--rsa-rounds", "-1"], "--rsa-rounds"),
        (["--rsa", "4", "--rsa-stop-at", "2"], "--rsa-stop-at"),
        (["--rsa", "4", "--rsa-parallel", "0"], "--rsa-parallel"),
        (["--rsa", "4", "--max-tokens", "9"], "--rsa-think"),
        (["--rsa", "4", "--thinking-budget", "9"], "--rsa-think"),
        (["--rsa", "4", "--thinking", "off"], "--thinking off"),
        (["--rsa", "4", "--logprobs", "2"], "--logprobs"),
        (["--rsa-rounds", "2"], "--rsa-rounds is for Markovian RSA"),
        (["--rsa-pipeline"], "--rsa-pipeline is for Markovian RSA"),
        (["--endpoint", "http://localhost:1/v1"], "--endpoint is for Markovian RSA"),
        (["--rsa", "4", "--endpoint", "ftp://localhost"], "no URL"),
    ],
)
def test_flags_that_make_no_sense_are_one_sentence_and_exit_code_2(zaya, folder, arguments, words):
    result = zaya("run", "-p", "x", "-m", folder, *arguments)
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(r"zaya: [^\n]+[.]\n", result.err), result.err
    assert words in result.err


def test_a_preset_alone_is_enough_and_other_flags_change_it(zaya, folder):
    value = json.loads(
        zaya("run", "-p", "x", "-m", folder, "--rsa-preset", "light", "--rsa", 2, *SMALL, "--format", "json").out
    )
    assert (value["rsa"]["settings"]["candidates"], value["rsa"]["settings"]["rounds"]) == (2, 1)


def test_the_same_command_and_seed_give_the_same_run(zaya, folder):
    first, again = (json.loads(ask(zaya, folder, "--format", "json").out) for _ in range(2))
    assert comparable(first) == comparable(again)
    assert comparable(json.loads(ask(zaya, folder, "--format", "json", seed=4).out)) != comparable(first)


@pytest.mark.processes
def test_a_run_killed_after_its_first_stage_resumes_to_the_same_result(zaya, folder, tmp_path):
    whole = json.loads(ask(zaya, folder, "--format", "json", n=4).out)
    process = start(folder, "--rsa-save", tmp_path / "state", "--format", "jsonl")
    assert wait_for(process, "stage_finished")["stage"] == 0
    process.kill()
    process.communicate()
    assert (tmp_path / "state" / "rsa.json").exists()
    resumed = ask(zaya, folder, "--rsa-save", tmp_path / "state", "--format", "json", n=4)
    assert "4 rollouts are there from an earlier run" in resumed.err
    assert comparable(json.loads(resumed.out)) == comparable(whole)


def test_a_saved_run_keeps_its_seed_and_is_not_taken_for_another(zaya, folder, tmp_path):
    save = ("--rsa-save", tmp_path / "state", *SMALL, "--format", "json")
    first = json.loads(zaya("run", "-p", "x", "-m", folder, "--rsa", 2, *save).out)
    again = json.loads(zaya("run", "-p", "x", "-m", folder, "--rsa", 2, *save).out)
    assert comparable(again) == comparable(first)
    other = zaya("run", "-p", "another question", "-m", folder, "--rsa", 2, *save)
    assert other.code == 2
    assert "messages" in json.loads(other.out)["error"]["message"]


@pytest.mark.processes
def test_ctrl_c_once_ends_with_the_best_answer_so_far(folder):
    process = start(folder, "--format", "jsonl", "--rsa-rounds", "200", n="3")
    wait_for(process, "rollout_finished")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    last = json.loads(out.splitlines()[-1])
    assert process.returncode == 0, err
    assert (last["event"], last["finish_reason"], last["rsa"]["is_complete"]) == ("finished", "cancelled", False)
    assert "Traceback" not in err


@pytest.mark.processes
def test_ctrl_c_twice_leaves_with_130(folder):
    process = start(folder, "--format", "jsonl", "--rsa-think", "90")
    wait_for(process, "rollout_started")
    process.send_signal(signal.SIGSTOP)  # so that both arrive before anything else is done
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.processes
def test_a_terminal_gets_a_live_table(folder):
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
        arguments = ["run", "-p", "hello", "-m", str(folder), "--rsa", "3", "--seed", "3", *SMALL]
        os.execv(sys.executable, [sys.executable, "-m", "zaya_cli.app", *arguments])
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"answer so far" in shown
    assert b"tok/s" in shown
    assert b"candidate 1, stage" not in shown


# --- what a chat calls ------------------------------------------------------------------------------------------------


def test_a_chat_can_have_its_next_answer_from_rsa(folder):
    from zaya_cli.flags.generation import GenerationSettings
    from zaya_cli.rsa.answer import agreement_line, answer_with_rsa
    from zaya_core import Engine, load_model, load_tokenizer

    engine = Engine(load_model(folder, device="cpu"), load_tokenizer(folder))
    stderr = io.StringIO()
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "b"},
    ]
    watched = answer_with_rsa(engine, messages, 2, GenerationSettings(), 5, Console(file=stderr))
    assert watched.stopped_by is None
    assert watched.result.is_complete
    assert engine.is_idle
    assert "2 candidates" in stderr.getvalue()
    assert agreement_line(watched.result)


# --- a server ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def direct(monkeypatch):
    pytest.importorskip("openai", reason="the endpoint extra is not installed")
    monkeypatch.setenv("NO_PROXY", "*")


def test_the_same_command_runs_on_a_server(zaya, folder, direct):
    with served(Behaviour()) as url:
        result = zaya("run", "-p", "hello", "-m", folder, "--rsa", 3, *SMALL, "--endpoint", url, "--format", "json")
    value = json.loads(result.out)
    assert (result.code, value["text"], value["thinking"]) == (0, "\\boxed{3}", THOUGHT)
    assert set(value) == {*PLAIN_FIELDS, "rsa"}
    assert (value["device"], value["model"]) == (url, "served")


def test_a_server_that_fails_later_leaves_the_answer_and_exit_code_7(zaya, folder, direct):
    behaviour = Behaviour(fault=lambda number: "400" if number >= 4 else None)
    with served(behaviour) as url:
        arguments = ("--rsa", 3, *SMALL, "--endpoint", url, "--rsa-parallel", 1, "-q")
        result = zaya("run", "-p", "hello", "-m", folder, *arguments)
    assert result.code == 7
    assert re.fullmatch(r"zaya: [^\n]+answered 400[^\n]+[.]\n", result.err)


def test_counts_that_are_ours_are_marked(zaya, folder, direct):
    asked = ("run", "-p", "hello", "-m", folder, "--rsa", 2, *SMALL, "--endpoint")
    with served(Behaviour(sends_usage=False)) as url:
        value = json.loads(zaya(*asked, url, "--format", "json").out)
        text = zaya(*asked, url, "--stats").err
    with served(Behaviour()) as url:
        sound = json.loads(zaya(*asked, url, "--format", "json").out)
    assert value["usage"]["is_estimate"] and all(one["is_estimate"] for one in value["rsa"]["candidates"])
    assert value["usage"]["completion_tokens"] > 0 and value["timings"]["decode_tokens_per_second"] > 0
    assert "is_estimate" not in sound["usage"]
    assert re.search(r"generated ~\d", text) and re.search(r"done, ~\d+ tokens", text)


def test_a_server_s_smaller_context_is_said_with_the_numbers(zaya, folder, direct):
    with served(Behaviour(models=[{"id": "served", "max_model_len": 285}])) as url:
        result = zaya("run", "-p", "hello", "-m", folder, "--rsa", 2, *SMALL, "--rsa-think", 500, "--endpoint", url)
    assert (result.code, result.out) == (0, "\\boxed{3}\n")
    said = " ".join(result.err.split())
    assert f"served at {url} has a context of 285 tokens, not of 300." in said
    assert "The context of 285 tokens, of which" in said and "for the thinking (of 500)" in said


def test_no_server_is_exit_code_7(zaya, folder, direct):
    result = zaya("run", "-p", "hello", "-m", folder, "--rsa", 3, "--endpoint", "http://127.0.0.1:9/v1")
    assert (result.code, result.out) == (7, "")
    assert "No OpenAI-compatible server answers" in result.err


def test_only_the_tokenizer_is_fetched_for_a_server(monkeypatch, folder):
    from zaya_cli.rsa import generator as rsa_generator

    asked: dict = {}

    def download(repo, **settings):
        asked.update(settings, repo=repo)
        return str(folder)

    monkeypatch.setattr("zaya_cli.models.hub.cached_folder", lambda *_: None)
    monkeypatch.setattr("zaya_cli.models.hub.is_offline", lambda: False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert rsa_generator.tokenizer_folder("some/repository") == folder
    assert asked["repo"] == "some/repository"
    assert not any("safetensors" in name for name in asked["allow_patterns"])
    assert "tokenizer.json" in asked["allow_patterns"]


# --- the view ---------------------------------------------------------------------------------------------------------

SIZES = PromptSizes(100, 200, 80)


def test_the_estimate_is_that_of_the_issue_s_small_cpu_and_names_light():
    params = RsaParams()
    line = estimate(RunStarted(params, params, 0, SIZES, 131_072), 33.0)
    assert line.startswith(
        "At 33.0 tokens per second this may take 1 h 51 min, at most 3 h 51 min; --rsa-preset light 55 "
    )
    assert params.typical_tokens == pytest.approx(220_000, rel=0.01)
    assert PRESETS["default"].typical_tokens == pytest.approx(440_000, rel=0.01)


def test_what_fits_is_not_commented_on():
    params = RsaParams()
    assert len(opening_lines(RunStarted(params, params, 0, SIZES, 131_072))) == 1
    assert "at most 458,752 tokens" in opening_lines(RunStarted(params, params, 0, SIZES, 131_072))[0]


def test_the_table_follows_a_candidate():
    view = RsaView(Console(file=io.StringIO()), quiet=True)
    params = RsaParams(candidates=2, rounds=1)
    view.take(RunStarted(params, params, 0, SIZES, 131_072))
    view.take(RolloutStarted(0, 1, 100))
    assert [row.state for row in view.rows] == ["waiting", "reading"]
    view.take(RolloutText(0, 1, 1, "thinking", "so it is 4 and"))
    view.take(RolloutText(0, 1, 1, "thinking", ""))
    assert (view.rows[1].state, view.rows[1].tokens, view.rows[1].answer_so_far()) == ("thinking", 2, "4")
    view.take(RolloutMoved(0, 1, True))
    assert view.rows[1].state == "parked"
    view.take(RolloutFinished(Rollout(0, 1, (), 0, "done", thinking="it is 5", completion_tokens=9)))
    assert (view.rows[1].state, view.rows[1].answer_so_far(), view.finished) == ("done", "5", 1)


def test_silence_is_told_more_and_more_seldom_and_ends_with_the_next_text():
    stderr = io.StringIO()
    view = RsaView(Console(file=stderr, width=200))
    params = RsaParams(candidates=2, rounds=1)
    view.take(RunStarted(params, params, 0, SIZES, 131_072))
    view.take(RolloutStarted(0, 0, 100))
    for seconds in range(5, 300):
        view.take(RolloutSilent(0, 0, float(seconds)))
    told = re.findall(r"candidate 1, stage 1 of 2: waiting, nothing came for (.+)", stderr.getvalue())
    assert told == ["30 s", "1 min 0 s", "2 min 0 s", "4 min 0 s"]
    table = io.StringIO()
    Console(file=table, width=200).print(view._table())
    assert "reading, waiting 4 min 59 s" in table.getvalue()
    view.take(RolloutText(0, 0, 1, "thinking", "so"))
    assert (view.rows[0].state, view.rows[0].silence) == ("thinking", 0.0)


def test_budgets_that_shrink_on_the_way_are_told():
    stderr = io.StringIO()
    view = RsaView(Console(file=stderr, width=200))
    asked = RsaParams(candidates=2, rounds=1)
    view.take(RunStarted(asked, asked, 0, SIZES, 131_072))
    view.take(RolloutStarted(0, 1))
    view.take(RolloutReturned(0, 1))
    view.take(BudgetsShrank(asked, replace(asked, think=700, tail=200, answer=300), SIZES, 2048))
    assert view.rows[1].state == "waiting"
    assert "The context of 2,048 tokens, of which the question takes 100, leaves 700 for" in stderr.getvalue()
    assert "200 for a tail (of 4,096), 300 for the answer (of 8,192)." in stderr.getvalue()


def test_what_cut_a_rollout_short_is_told():
    stderr = io.StringIO()
    view = RsaView(Console(file=stderr, width=200))
    params = RsaParams(candidates=2, rounds=1)
    view.take(RunStarted(params, params, 0, SIZES, 131_072))
    view.take(RolloutFinished(Rollout(0, 0, (), 0, "cut", thinking="so", error="It fell over.")))
    assert "candidate 1, stage 1 of 2: It fell over." in stderr.getvalue()


def test_a_loop_and_a_failure_are_told():
    stderr = io.StringIO()
    view = RsaView(Console(file=stderr, width=200))
    params = RsaParams(candidates=2, rounds=1)
    view.take(RunStarted(params, params, 0, SIZES, 131_072))
    view.take(RolloutFinished(Rollout(0, 0, (), 0, "loop", completion_tokens=4096)))
    view.take(RolloutFinished(Rollout(0, 1, (), 0, "failed", error="It fell over.")))
    assert "candidate 1, stage 1 of 2: it repeated itself and was stopped after 4,096 tokens" in stderr.getvalue()
    assert "candidate 2, stage 1 of 2: It fell over." in stderr.getvalue()
