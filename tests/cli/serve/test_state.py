"""What a server says of itself: rows and counters, without any text of anybody's; and steering an answer."""

from __future__ import annotations

import asyncio
import json
import re
import time

from tests.cli.serve.in_process import asked, error_in, events, joined

CHAT = "/v1/chat/completions"
THINKS_ON = {"106": -100, "767": -100}


def test_slots_are_rows_without_text(server):
    idle = server.get("/slots").json()
    assert [slot["state"] for slot in idle] == ["idle"] * 4 and [slot["id"] for slot in idle] == [0, 1, 2, 3]
    seen = []

    async def look(_):
        response = await server.client.get("/slots")
        full = await server.client.get("/slots?fail_on_no_slot=1")
        seen.append((response.text, response.json(), full.status_code))
        return sum(slot["state"] == "running" for slot in response.json()) == 3

    server.leave(CHAT, asked("SECRET", logit_bias=THINKS_ON, n=3), look)
    text, slots, full = seen[-1]
    assert "SECRET" not in text and full == 200
    running = slots[0]
    assert running["is_processing"] and running["is_thinking"] and running["n_decoded"] > 0
    assert slots[3]["state"] == "idle"


def test_full_slots_are_an_error_for_who_asks_for_it(server):
    seen = []

    async def look(_):
        response = await server.client.get("/slots")
        if sum(slot["state"] == "running" for slot in response.json()) < 4:
            return False
        seen.append(await server.client.get("/slots?fail_on_no_slot=1"))
        return True

    server.leave(CHAT, asked(logit_bias=THINKS_ON, n=4), look)
    assert error_in(seen[0], 503)["code"] == "no_slot"


def test_metrics_are_prometheus_text_and_count(server):
    def value(name):
        response = server.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        (found,) = re.findall(rf"^zaya_{name} (\S+)$", response.text, re.M)
        return float(found)

    before = value("generated_tokens_total"), value("requests_total")
    tokens = server.whole(CHAT, asked("SECRET", max_tokens=7))["usage"]["completion_tokens"]
    assert (value("generated_tokens_total"), value("requests_total")) == (before[0] + tokens, before[1] + 1)
    assert "SECRET" not in server.get("/metrics").text
    assert value("rows_running") == 0


def test_metrics_are_off_unless_they_are_asked_for(own_server):
    assert "--metrics" in error_in(own_server(metrics=False).get("/metrics"), 501)["message"]


def test_health_asks_nobody(server):
    release = server.held()
    started = time.monotonic()
    assert server.get("/health").json() == {"status": "ok"}
    assert time.monotonic() - started < 5
    release.set()


def test_an_idle_server_takes_no_processor_time(server):
    server.chat(seed=3)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_the_thinking_of_an_open_answer_can_be_ended(server):
    body = asked(logit_bias={"106": -100, "767": -100}, max_tokens=500, thinking_budget=450, stream=True)

    async def answer_now():
        answering = asyncio.ensure_future(server.client.post(CHAT, json=body))
        while not (ids := list(server.service._jobs)) or server.service.waiting_requests:
            await asyncio.sleep(0.002)
        control = await server.client.post(f"{CHAT}/control", json={"id": ids[0], "action": "reasoning_end"})
        return control, await answering

    control, answer = server.wait(answer_now())
    assert control.status_code == 200 and control.json()["success"]
    *chunks, done = events(answer.text)
    thinking, content, reason = joined(chunks)
    assert content and len(content) > len(thinking) and reason == "length" and done == "[DONE]"


def test_only_open_answers_of_ones_own_can_be_steered(server):
    error = error_in(server.post(f"{CHAT}/control", {"id": "chatcmpl-x", "action": "reasoning_end"}), 404)
    assert error["param"] == "id"
    assert error_in(server.post(f"{CHAT}/control", {"id": "x", "action": "dance"}), 400)["param"] == "action"
    assert error_in(server.post(f"{CHAT}/control", {"id": "x"}), 400)["param"] == "action"


def test_one_keys_prefixes_and_answers_are_not_another_keys(server):
    """What was computed for one shows in no figure of the other's, and the other cannot steer it."""
    text = "What is 12+7? " * 20

    def cached(owner):
        async def ask():
            scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b""}
            sent = []

            async def receive():
                await asyncio.sleep(0 if messages else 3600)
                return messages.pop()

            async def send(message):
                sent.append(message.get("body", b""))

            messages = [{"type": "http.request", "body": json.dumps(asked(text, max_tokens=2)).encode()}]
            await server.app({**scope, "state": {"owner": owner}}, receive, send)
            return json.loads(b"".join(sent))["usage"]["prompt_tokens_details"]["cached_tokens"]

        return server.wait(ask())

    assert cached("a") == 0
    assert cached("a") > 0
    assert cached("b") == 0
    assert not server.service.end_thinking("chatcmpl-x", "b")
