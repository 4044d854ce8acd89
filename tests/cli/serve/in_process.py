"""The service and its application in a thread of this process, without a socket; calls wait for their answers."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager

import httpx2
import uvicorn

from zaya_cli.serve.app import application
from zaya_cli.serve.service import Service
from zaya_cli.serve.settings import ServeSettings

SECONDS = 30


class InProcess:
    """One service over a runtime. Close it: the runtime can then be served again."""

    def __init__(self, runtime, **settings):
        self.settings = ServeSettings(**{"rows": 4, "metrics": True, **settings})
        self.engine = runtime.engine
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.service = Service(runtime, self.settings)
        self.app = application(self.service, self.settings)
        transport = httpx2.ASGITransport(self.app)
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://server", timeout=SECONDS)
        self.wait(self._start())

    async def _start(self):
        self.service.start()

    def close(self):
        async def close():
            self.service.close()

        self.wait(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def wait(self, work):
        """The result of a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    # --- requests -----------------------------------------------------------------------------------------------------

    def get(self, path):
        return self.wait(self.client.get(path))

    def post(self, path, body):
        """body: of JSON, or bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.wait(self.client.post(path, content=content))

    def chat(self, **fields):
        return self.whole("/v1/chat/completions", asked(**fields))

    def whole(self, path, body):
        """The object of an answer that is there."""
        response = self.post(path, body)
        assert response.status_code == 200, response.text
        return response.json()

    def streamed(self, path, body):
        """The objects of a stream; its last event is `[DONE]`."""
        response = self.post(path, {**body, "stream": True})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        *chunks, done = events(response.text)
        assert done == "[DONE]"
        return chunks

    def at_once(self, *bodies, path="/v1/chat/completions"):
        """Responses to bodies that are sent together."""

        async def gather():
            return await asyncio.gather(*(self.client.post(path, json=body) for body in bodies))

        return self.wait(gather())

    def leave(self, path, body, is_time):
        """Send a request and go away when `is_time` says so of the bytes that came."""
        return self.wait(asyncio.wait_for(self._leave(path, body, is_time), SECONDS))

    async def _leave(self, path, body, is_time):
        left, received, messages = asyncio.Event(), [], [{"type": "http.request", "body": json.dumps(body).encode()}]

        async def receive():
            if messages:
                return messages.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            received.append(message.get("body", b""))

        scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "state": {}}
        answering = asyncio.ensure_future(self.app(scope, receive, send))
        while not await is_time(b"".join(received)):
            assert not answering.done(), received
            await asyncio.sleep(0.002)
        left.set()
        await asyncio.wait_for(answering, 5)
        return b"".join(received)

    # --- the engine ---------------------------------------------------------------------------------------------------

    def rows(self):
        """Views of all open requests."""
        return self.wait(self.service.ask(lambda engine: engine.rows()))

    def is_free_soon(self, seconds=1.0):
        """Whether no row is taken within a second."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.rows() and not self.service.open_requests:
                return True
            time.sleep(0.005)
        return False

    def held(self):
        """Let the engine thread do nothing until the event that is returned is set."""
        release = threading.Event()
        self.service._thread.do(lambda: (release.wait(SECONDS), None)[1])
        return release


def asked(text="What is 12+7?", **fields):
    """A body for a chat."""
    return {"messages": [{"role": "user", "content": text}], **fields}


def events(text):
    """What each event of a stream holds: an object, or a text that is none. Comments are none."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    assert all(block.startswith("data: ") for block in blocks), blocks
    values = [block.removeprefix("data: ") for block in blocks]
    return [json.loads(value) if value.startswith("{") else value for value in values]


def joined(chunks, index=0):
    """(thinking, content, finish reason) of a choice of a streamed chat."""
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    deltas = [choice["delta"] for choice in choices]
    thinking = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    content = "".join(delta.get("content") or "" for delta in deltas)
    return thinking, content, choices[-1]["finish_reason"]


def error_in(response, status):
    """The error of a response with this status."""
    assert response.status_code == status, (response.status_code, response.text)
    error = response.json()["error"]
    assert {"message", "type", "param", "code"} == set(error)
    assert error["message"] and "Traceback" not in error["message"]
    return error


@contextmanager
def on_a_socket(server):
    """The URL of a server on loopback, by the event loop that its service runs in."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(server.app, lifespan="off", log_config=None, access_log=False)
    http = uvicorn.Server(config)
    serving = asyncio.run_coroutine_threadsafe(http.serve([listening]), server._loop)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        http.should_exit = True
        serving.result(SECONDS)
