"""`zaya serve` as a program of its own, and requests to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import zaya_cli

START = "from zaya_cli.__main__ import main; main()"
ROOT = str(Path(zaya_cli.__file__).parents[1])
_ADDRESS = re.compile(r"http://(\S+):(\d+)/v1")


class Program:
    """Ends with the block that it is opened in. notes: the lines that came on stderr."""

    def __init__(self, place, *arguments, start=START, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", start, "serve", "--port", "0", "--device", "cpu", *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=place, text=True,
            env={**os.environ, "PYTHONPATH": ROOT, "HF_HUB_OFFLINE": "1", **environment},
        )  # fmt: skip
        assert self.process.stdout is not None and self.process.stderr is not None
        self._out, self._err = self.process.stdout, self.process.stderr
        self.notes = []
        self._noted = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self._err:
            with self._noted:
                self.notes.append(line)
                self._noted.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self._out, self._err):
            stream.close()

    @property
    def err(self):
        return "".join(self.notes)

    def wait_for(self, text, seconds=60):
        """The first line with this text in it."""
        with self._noted:
            assert self._noted.wait_for(lambda: text in self.err, seconds), self.err
            return next(line for line in self.notes if text in line)

    def port(self):
        """Of a server that is ready."""
        found = _ADDRESS.search(self.wait_for(" is served at "))
        assert found is not None
        return int(found[2])

    def signal(self, number):
        self.process.send_signal(number)

    def end(self, seconds=30):
        """(exit code, what came on stdout) of a program that ends by itself."""
        code = self.process.wait(seconds)
        self._reader.join()
        return code, self._out.read()


def ask(port, path="/health", body=None, connection=None, **headers):
    """The response, whose body is not read yet."""
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    content = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, content, headers)
    response = connection.getresponse()
    response.connection = connection  # or it would be closed when nobody has it
    return response


def chat(port, tokens, stream=True, text="x", **more):
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "stream": stream, "temperature": 0}
    return ask(port, "/v1/chat/completions", body, **more)


def events(response):
    """What a stream holds, until it ends or breaks off."""
    for line in response:
        if line.startswith(b"data: "):
            data = line.removeprefix(b"data: ").strip()
            yield data.decode() if data == b"[DONE]" else json.loads(data)


def first_text(response):
    """Read until the first text of an answer: it runs from here on."""
    for event in events(response):
        delta = event["choices"][0]["delta"]
        if delta.get("content") or delta.get("reasoning_content"):
            return event
    raise AssertionError("the stream has ended")


def close(response):
    """As when a program is killed: what was sent and not read is lost."""
    sock = response.connection.sock or response.fp.raw._sock
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    response.close()
    response.connection.close()
