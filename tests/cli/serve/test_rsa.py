"""Markovian RSA as a field of a chat: the command's answer, told as any other, and gone with its client."""

from __future__ import annotations

import asyncio
import json
import re
import time

import pytest

from tests.cli.serve.in_process import InProcess, asked, error_in, joined, on_a_socket
from tests.cli.serve.test_disconnect import states
from zaya_core.errors import CheckpointError

CHAT = "/v1/chat/completions"
QUESTION = "What is 23*17?"
SMALL = {"candidates": 5, "rounds": 1, "subset": 2, "think": 48, "tail": 24, "answer": 24}
FLAGS = [
    "--rsa",
    "5",
    "--rsa-rounds",
    "1",
    "--rsa-subset",
    "2",
    "--rsa-think",
    "48",
    "--rsa-tail",
    "24",
    "--rsa-answer",
    "24",
]
HOT = {"temperature": 1.7, "seed": 11}
pytestmark = pytest.mark.processes  # answers that are formulas are compared in one
LONG = {"candidates": 6, "think": 2000}


def rsa(text=QUESTION, settings=SMALL, **fields):
    return asked(text, rsa=settings, **{**HOT, **fields})


def told(answer):
    """(text, thinking, reason) of an answer that is one object."""
    (choice,) = answer["choices"]
    message = choice["message"]
    return message["content"], message.get("reasoning_content", ""), choice["finish_reason"]


def by_command(zaya, *more):
    arguments = ("run", "-p", QUESTION, "-m", "demo", "--device", "cpu", "--format", "json", "--quiet", *FLAGS)
    ended = zaya(*arguments, "--temperature", HOT["temperature"], "--seed", HOT["seed"], *more)
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


@pytest.mark.parametrize(("flags", "fields"), [((), {}), (("--rsa-select", "aggregate"), {"select": "aggregate"})])
def test_the_answer_is_the_command_s_of_the_same_seed(zaya, server, flags, fields):
    answer, command = server.chat(**rsa(settings={**SMALL, **fields})), by_command(zaya, *flags)
    assert told(answer) == (command["text"], command["thinking"], command["finish_reason"])
    run, other = answer["rsa"], command["rsa"]
    assert run["seed"] == answer["zaya"]["seed"] == command["seed"]
    assert run["params"] == other["settings"] and run["rounds"] == 1
    assert run["vote"] == {name: other[name] for name in run["vote"]}
    assert [
        (one["stage"], one["candidate"], one["state"], one["tokens"], one["answer"]) for one in run["candidates"]
    ] == [
        (one["stage"], one["candidate"], one["state"], one["completion_tokens"], one["extracted"])
        for one in other["candidates"]
    ]
    assert len({one["answer"] for one in run["candidates"]}) > 1
    usage = answer["usage"]
    assert usage["prompt_tokens"] == command["usage"]["prompt_tokens"]
    assert usage["completion_tokens"] == command["usage"]["completion_tokens"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == command["usage"]["thinking_tokens"]


def test_votes_are_those_who_agree_within_a_stage(server):
    run = server.chat(**rsa())["rsa"]
    for one in run["candidates"]:
        same = [two for two in run["candidates"] if (two["stage"], two["answer"]) == (one["stage"], one["answer"])]
        assert one["votes"] == (len(same) if one["answer"] is not None else 0)
    chosen = next(
        one for one in run["candidates"] if all(one[key] == run["vote"][key] for key in ("stage", "candidate"))
    )
    assert chosen["votes"] == run["vote"]["agreeing"]


def test_a_stream_tells_the_same(server):
    whole, chunks = server.chat(**rsa()), server.streamed(CHAT, rsa(stream_options={"include_usage": True}))
    thinking, content, reason = joined(chunks)
    assert (content, thinking, reason) == told(whole)
    *_, last, figures = chunks
    assert last["rsa"] == whole["rsa"] and last["choices"][0]["finish_reason"] == reason
    assert all(chunk["choices"] for chunk in chunks[:-1]) and not any("rsa_progress" in chunk for chunk in chunks)
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [figures["usage"][name] for name in names] == [whole["usage"][name] for name in names]


def test_progress_is_comments_for_all_and_chunks_for_who_asks(server):
    plain = server.post(CHAT, rsa(stream=True)).text
    comments = [line for line in plain.splitlines() if line.startswith(": rsa ")]
    assert len(comments) == 20 and comments[0].endswith("running, 0 tokens")
    chunks = server.streamed(CHAT, rsa(settings={**SMALL, "progress": True}))
    progress = [chunk["rsa_progress"] for chunk in chunks if "rsa_progress" in chunk]
    ended = sorted((one["stage"], one["candidate"]) for one in progress if one["state"] != "running")
    assert ended == [(stage, candidate) for stage in range(2) for candidate in range(5)]
    assert all(chunk["choices"] == [] for chunk in chunks if "rsa_progress" in chunk)


def test_runs_and_an_ordinary_request_share_the_batch_and_each_answers_as_alone(server):
    """A third run waits for its turn."""
    bodies = [rsa(), rsa("What is 8+5?"), rsa("What is 9-2?"), asked(seed=5)]
    alone = [server.whole(CHAT, body) for body in bodies]
    together = [response.json() for response in server.at_once(*bodies)]
    for one, other in zip(alone, together, strict=True):
        assert one["choices"] == other["choices"]
        assert one.get("rsa") == other.get("rsa")


def test_a_run_leaves_two_rows_to_others(server):
    seen = []

    async def has_run(_):
        rows = await server.service.ask(lambda engine: engine.rows())
        seen.append(sum(row.state != "waiting" for row in rows))
        return len(seen) > 30

    server.leave(CHAT, rsa(settings=LONG, temperature=50), has_run)
    assert max(seen) == server.settings.rows - 2


@pytest.mark.parametrize("is_stream", [False, True])
def test_who_leaves_frees_all_rows_and_leaves_no_prefix(server, is_stream):
    async def has_row(_):
        rows = await server.service.ask(lambda engine: engine.rows())
        return any(row.state == "running" for row in rows)

    server.leave(CHAT, rsa(settings=LONG, temperature=50, stream=is_stream), has_row)
    assert server.is_free_soon()
    assert forgets_runs_soon(server)


def test_who_leaves_while_waiting_for_a_turn_leaves_nothing(server):
    async def third_leaves():
        long = rsa(settings=LONG, temperature=50)
        others = [asyncio.ensure_future(server._leave(CHAT, long, still)) for _ in range(2)]
        await server._leave(CHAT, rsa(), are_three)
        wait.clear()
        await asyncio.gather(*others)

    wait = {"running"}

    async def still(_):
        return not wait

    async def are_three(_):
        return sum(one.job.part_of is None for one in server.service._mailboxes) == 3

    server.wait(third_leaves())
    assert server.is_free_soon() and forgets_runs_soon(server)


def forgets_runs_soon(server):
    """Whether no prefix of a run is kept within a second; the ids of their answers are their salts."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        keys = server.wait(server.service.ask(lambda engine: list(engine.prefixes._prefixes)))
        if not any(salt.startswith(b"chatcmpl-") for salt, _ in keys):
            return True
    return False


def test_prefixes_are_forgotten_at_the_end(server):
    server.chat(**rsa())
    assert forgets_runs_soon(server)


def test_agreement_ends_a_run_early(server):
    run = server.chat(**rsa("What is 12+7?", {**SMALL, "stop_at": 0.2}, temperature=0.5))["rsa"]
    assert {one["stage"] for one in run["candidates"]} == {0} and run["vote"]["stage"] == 0
    assert server.is_free_soon()


def test_a_run_that_has_begun_is_complete_before_the_server_ends(own_server):
    server = own_server()

    async def ask_and_drain():
        asking = asyncio.ensure_future(server.client.post(CHAT, json=rsa()))
        while not server.service.running_jobs:
            await asyncio.sleep(0.001)
        return await server.service.drain(20), await asking

    is_complete, response = server.wait(ask_and_drain())
    assert is_complete and told(response.json())[2] in ("stop", "length")
    assert {one["stage"] for one in response.json()["rsa"]["candidates"]} == {0, 1}


def test_a_run_that_takes_too_long_is_ended_with_its_rollouts(own_server):
    server = own_server(request_timeout=0.2)
    assert error_in(server.post(CHAT, rsa(settings=LONG, temperature=50)), 408)["code"] == "request_timeout"
    assert server.is_free_soon()


def test_what_fails_all_rollouts_is_the_run_s_error(server, demo, monkeypatch):
    def broken(*_):
        raise MemoryError

    monkeypatch.setattr(demo.engine, "submit", broken)
    assert error_in(server.post(CHAT, rsa()), 500)["code"] == "out_of_memory"
    assert server.is_free_soon()


def test_a_damaged_tokenizer_ends_the_run_with_a_sentence(server, demo, monkeypatch):
    """Whatever is raised between stages is told, and the place is free for others."""

    def broken(*_, **__):
        raise CheckpointError("/secret/place: damaged")

    monkeypatch.setattr("zaya_cli.serve.rsa.run.engine_request", broken)
    for _ in range(3):
        assert "/secret" not in error_in(server.post(CHAT, rsa()), 500)["message"]
    assert server.is_free_soon()


def test_a_seed_is_made_and_told_and_false_asks_for_nothing(server):
    first = server.chat(**rsa(seed=None))
    again = server.chat(**rsa(seed=first["zaya"]["seed"]))
    assert told(first) == told(again) and first["rsa"]["vote"] == again["rsa"]["vote"]
    assert "rsa" not in server.chat(**rsa(settings=False))


def test_true_a_number_and_the_aliases(server):
    params = {}
    for name, value in (("true", True), ("number", 3.0), ("empty", {})):
        params[name] = server.chat(**rsa("What is 1+1?", value, temperature=0.5))["rsa"]["params"]
    assert params["true"] == params["empty"] and params["true"]["candidates"] == 8
    assert params["number"]["candidates"] == 3
    aliases = {"n": 5, "t": 1, "k": 2, "think_budget": 48, "tail_tokens": 24, "answer": 24, "selection": "first"}
    assert (
        server.chat(**rsa(settings=aliases))["rsa"] == server.chat(**rsa(settings={**SMALL, "select": "first"}))["rsa"]
    )


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("yes", "rsa"),
        (0, "rsa"),
        (129, "rsa"),
        (2.5, "rsa"),
        ([], "rsa"),
        ({"candidates": 0}, "rsa.candidates"),
        ({"n": True}, "rsa.n"),
        ({"n": 4, "candidates": 4}, "rsa.n"),
        ({"rounds": -1}, "rsa.rounds"),
        ({"think": 10**9}, "rsa.think"),
        ({"tail": "long"}, "rsa.tail"),
        ({"select": "best"}, "rsa.select"),
        ({"stop_at": 0}, "rsa.stop_at"),
        ({"stop_at": 1.5}, "rsa.stop_at"),
        ({"progress": 1}, "rsa.progress"),
        ({"tools": []}, "rsa.tools"),
    ],
)
def test_what_cannot_be_used_is_named(server, value, param):
    assert error_in(server.post(CHAT, rsa(settings=value)), 400)["param"] in (param, "rsa.candidates")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"max_tokens": 100}, "max_tokens"),
        ({"thinking_budget": 5}, "thinking_budget"),
        ({"reasoning_effort": "none"}, "reasoning_effort"),
        ({"enable_thinking": False}, "enable_thinking"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"temperature": 0}, "temperature"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "1+1 " * 2100}]}, "messages"),
    ],
)
def test_what_does_not_go_with_it_is_refused(server, fields, param):
    assert error_in(server.post(CHAT, {**rsa(), **fields}), 400)["param"] == param


def test_completions_have_no_such_field(server):
    assert error_in(server.post("/v1/completions", {"prompt": "x", "rsa": True}), 501)["param"] == "rsa"


def test_our_own_client_runs_rsa_on_our_own_server(zaya, demo):
    """The other way round: the command schedules, this server generates."""
    server = InProcess(demo)
    with on_a_socket(server) as url:
        command = by_command(zaya, "--endpoint", url)
    assert re.search(r"\S", command["text"]) and command["rsa"]["is_complete"]
    assert [one["state"] in ("done", "cut") for one in command["rsa"]["candidates"]] == [True] * 10
    assert server.is_free_soon()
    server.close()


def test_answer_now_ends_the_thoughts_of_a_run(server):
    async def end_thoughts():
        asking = asyncio.ensure_future(
            server.client.post(CHAT, json=rsa(settings={**LONG, "candidates": 2, "rounds": 0}))
        )
        while not await states(server, "running", 2)(b""):
            assert not asking.done()
            await asyncio.sleep(0.001)
        (whole,) = [one.job.id for one in server.service._wholes]
        assert server.service.end_thinking(whole, "")
        return (await asking).json()

    assert server.wait(end_thoughts())["usage"]["completion_tokens_details"]["reasoning_tokens"] < 2000
