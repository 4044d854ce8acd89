"""A server of OpenAI's protocol that thinks and answers by a rule, and misbehaves on request."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

THOUGHT = "one two three"
PLAIN = {"model", "prompt", "messages", "max_tokens", "temperature", "top_p", "seed", "stop", "stream"}


@dataclass
class Behaviour:
    """What the server understands, and its faults.

    fault: for the n-th completion request (from 0) the name of one, or what is done in place of an answer. refuses:
    fields that it names in a 400. context: prompt and answer must fit, else a 400 of `context_words`. root: before the
    pages of the protocol; other pages are 404.
    """

    takes_ids: bool = True
    takes_extras: bool = True
    has_completions: bool = True
    streams: bool = True
    sends_usage: bool = True
    chat_message: dict = field(default_factory=lambda: {"content": "\\boxed{3}", "reasoning_content": THOUGHT})
    count_tokens: Callable[[Any], int] = len
    fault: Callable[[int], Any] = lambda number: None
    refuses: tuple[str, ...] = ()
    models: Any = ({"id": "served", "object": "model"},)
    root: str = "/v1"
    context: int | None = None
    context_words: str = "This model's maximum context length is {context} tokens."
    seen: list[dict] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    """One connection; `behaviour` is set by `served`."""

    behaviour: Behaviour
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path != f"{self.behaviour.root}/models":
            self.reply_bytes(404, b"<html>404 page not found</html>", "text/html")
        elif callable(self.behaviour.models):
            self.behaviour.models(self)
        else:
            self.reply(200, {"object": "list", "data": list(self.behaviour.models)})

    def do_POST(self):
        behaviour = self.behaviour
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with behaviour.lock:
            number = len(behaviour.seen)
            behaviour.seen.append({"path": self.path, **body})
            behaviour.open_now += 1
            behaviour.most_open = max(behaviour.most_open, behaviour.open_now)
        try:
            self.answer(number, body)
        finally:
            with behaviour.lock:
                behaviour.open_now -= 1

    def answer(self, number, body):
        behaviour, fault = self.behaviour, self.behaviour.fault(number)
        if callable(fault):
            fault(self, body)
        elif fault == "drop":
            self.drop()
        elif fault == "garbage":
            self.reply_bytes(200, b'{"choices": [')
        elif fault == "wrong shape":
            self.reply(200, {"choices": []})
        elif fault is not None:
            self.error(int(fault), f"fault {fault}")
        elif not self.path.startswith(f"{behaviour.root}/"):
            self.reply_bytes(404, b"<html>404 page not found</html>", "text/html")
        elif refused := [name for name in behaviour.refuses if name in body]:
            self.error(400, f"Unknown parameter: {refused[0]}")
        elif self.path.endswith("/chat/completions"):
            self.chat(body)
        else:
            self.complete(body)

    def complete(self, body):
        behaviour = self.behaviour
        extras = set(body) - PLAIN - {"stream_options"}
        if not behaviour.has_completions:
            self.error(404, "no such page")
        elif (extras and not behaviour.takes_extras) or not (isinstance(body["prompt"], str) or behaviour.takes_ids):
            self.error(422, "not understood")
        elif behaviour.context is not None and len(body["prompt"]) + body["max_tokens"] > behaviour.context:
            self.refuse_for_context(body)
        else:
            text = THOUGHT if body.get("stop") else "\\boxed{3}"
            self.stream([{"text": word} for word in words(text)], body, "length" if body["max_tokens"] < 3 else "stop")

    def refuse_for_context(self, body):
        prompt, wanted = len(body["prompt"]), body["max_tokens"]
        values = {"context": self.behaviour.context, "prompt": prompt, "wanted": wanted, "total": prompt + wanted}
        self.error(400, self.behaviour.context_words.format(**values))

    def chat(self, body):
        message = self.behaviour.chat_message
        if not self.behaviour.streams:
            choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
            self.reply(200, {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 5}})
            return
        deltas = [{"role": "assistant"}]
        for name in ("reasoning_content", "reasoning", "content"):
            deltas += [{name: word} for word in words(message.get(name) or "")]
        self.stream([{"delta": delta} for delta in deltas], body)

    def stream(self, choices, body, finish_reason="stop"):
        """Chunks with a choice each, the reason of the end, the usage if it is asked for, and the mark of the end."""
        if body.get("logprobs"):
            for number, choice in enumerate(choices):
                choice["logprobs"] = {"token_logprobs": [None if number == 0 else -1.0]}
        chunks: list[dict] = [{"choices": [{"index": 0, "finish_reason": None, **choice}]} for choice in choices]
        chunks.append({"choices": [{"index": 0, "text": "", "finish_reason": finish_reason}]})
        if self.behaviour.sends_usage and body.get("stream_options", {}).get("include_usage"):
            count = self.behaviour.count_tokens(body["prompt"]) if "prompt" in body else 9
            chunks.append({"choices": [], "usage": {"prompt_tokens": count, "completion_tokens": 3}})
        self.send_events([*map(json.dumps, chunks), "[DONE]"])

    # --- bytes --------------------------------------------------------------------------------------------------------

    def begin(self, status=200, kind="text/event-stream", **headers):
        """The head of an answer that ends with the connection."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.close_connection = True

    def send_events(self, events):
        self.begin()
        self.send("".join(f"data: {event}\n\n" for event in events))

    def send(self, content):
        self.wfile.write(content.encode() if isinstance(content, str) else content)
        self.wfile.flush()

    def drop(self):
        """End the connection as a crash does."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def error(self, status, message, **headers):
        self.reply(status, {"error": {"message": message}}, **headers)

    def reply(self, status, value, **headers):
        self.reply_bytes(status, json.dumps(value).encode(), **headers)

    def reply_bytes(self, status, content, kind="application/json", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in {"retry-after-ms": "1", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


def words(text):
    """The pieces in which a text is streamed: words, each with the blank before it."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


def event(text="", reason=None, **fields):
    """A chunk of a completion as an event."""
    return "data: " + json.dumps({"choices": [{"index": 0, "text": text, "finish_reason": reason}], **fields}) + "\n\n"


class Server(ThreadingHTTPServer):
    """Says nothing of clients that leave before they are answered, as cancelled ones do."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def served(behaviour, path="/v1"):
    """The base URL of a server of this Behaviour while it runs."""
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"behaviour": behaviour}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{path}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
