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


@dataclass
class Behaviour:
    """What the server understands, and its faults: for the n-th completion request (from 0) the name of one."""

    takes_ids: bool = True
    takes_extras: bool = True
    has_completions: bool = True
    chat_message: dict = field(default_factory=lambda: {"content": "\\boxed{3}", "reasoning_content": THOUGHT})
    count_tokens: Callable[[Any], int] = len
    fault: Callable[[int], str | None] = lambda number: None
    seen: list[dict] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def handler_of(behaviour):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.reply(200, {"object": "list", "data": [{"id": "served", "object": "model"}]})

        def do_POST(self):
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
            fault = behaviour.fault(number)
            if fault == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif fault == "garbage":
                self.reply_bytes(200, b'{"choices": [')
            elif fault == "wrong shape":
                self.reply(200, {"choices": []})
            elif fault is not None:
                self.reply(int(fault), {"error": {"message": f"fault {fault}"}})
            elif self.path.endswith("/chat/completions"):
                message = {"role": "assistant", **behaviour.chat_message}
                self.reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                                 "usage": {"prompt_tokens": 9, "completion_tokens": 5}})  # fmt: skip
            else:
                self.complete(body)

        def complete(self, body):
            extras = set(body) - {"model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop"}
            is_text = isinstance(body["prompt"], str)
            if not behaviour.has_completions:
                self.reply(404, {"error": {"message": "no such page"}})
            elif (extras and not behaviour.takes_extras) or not (is_text or behaviour.takes_ids):
                self.reply(422, {"error": {"message": "not understood"}})
            else:
                text = THOUGHT if body.get("stop") else "\\boxed{3}"
                is_cut = body["max_tokens"] < 3
                choice = {"index": 0, "text": text, "finish_reason": "length" if is_cut else "stop"}
                if extras:
                    choice["logprobs"] = {"token_logprobs": [None, -0.5, -1.5]}
                count = behaviour.count_tokens(body["prompt"])
                self.reply(200, {"choices": [choice], "usage": {"prompt_tokens": count, "completion_tokens": 3}})

        def reply(self, status, value):
            self.reply_bytes(status, json.dumps(value).encode())

        def reply_bytes(self, status, content):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(content)

    return Handler


class Server(ThreadingHTTPServer):
    """Says nothing of clients that leave before they are answered, as cancelled ones do."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def served(behaviour):
    """The base URL of a server of this Behaviour while it runs."""
    server = Server(("127.0.0.1", 0), handler_of(behaviour))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
