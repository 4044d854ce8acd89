"""A Hugging Face Hub on loopback: the part of its interface that downloads use, and faults on request.

Serves one model repository: `/api/models/REPO[/revision/REV]`, `/api/models/REPO/tree/COMMIT` and
`/REPO/resolve/REV/FILE`, which sends large files by a redirect to another host name (`localhost` instead of
`127.0.0.1`), as the real one does. Ranges are honoured.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPO = "Zyphra/ZAYA1-tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 10_000  # bytes; larger files are "LFS" files


@dataclass
class Faults:
    """What goes wrong. Each list or number is used up as requests come."""

    api_status: int | None = None
    error_code: str | None = None
    statuses: list[int] = field(default_factory=list)  # answers to the next requests for large contents
    drops: dict[str, list[int]] = field(default_factory=dict)  # by file: the next contents end after so many bytes
    ignores_ranges: bool = False
    corrupts: int = 0  # so many contents have one wrong byte
    held: str | None = None  # answers for this path stop, a content after `held_after` bytes, until `release` is set
    held_after: int = 0
    release: threading.Event = field(default_factory=threading.Event)


@dataclass
class Request:
    """What a client asked for."""

    method: str
    path: str
    range: str | None
    authorization: str | None


class LoopbackHub:
    """Files, faults, and a record of the requests."""

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.faults = Faults()
        self.requests: list[Request] = []
        self.sent = 0  # bytes of large contents
        self.is_holding = threading.Event()
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True

    @property
    def port(self):
        return self.server.server_address[1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def checksum(self, name: str) -> str:
        content = self.files[name]
        if len(content) > LARGE:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()

    def contents_requested(self) -> list[Request]:
        return [request for request in self.requests if request.path.startswith("/content/")]

    def rests_requested(self) -> list[str]:
        """Files that were requested from some byte to the end, not as a part."""
        return [
            request.path.removeprefix("/content/")
            for request in self.contents_requested()
            if request.range is None or request.range.endswith("-")
        ]

    def take(self, queue: list[int]) -> int | None:
        with self.lock:
            return queue.pop(0) if queue else None

    def take_corruption(self) -> bool:
        with self.lock:
            self.faults.corrupts -= 1
            return self.faults.corrupts >= 0


@contextmanager
def running(files):
    """A hub that serves for the length of the block."""
    hub = LoopbackHub(files)
    thread = threading.Thread(target=hub.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.faults.release.set()
        hub.server.shutdown()
        hub.server.server_close()


def wait_until(condition, seconds=300.0):
    """For what another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *arguments):
        """Silent."""

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        with self.hub.lock:
            self.hub.requests.append(
                Request(self.command, path, self.headers.get("Range"), self.headers.get("Authorization"))
            )
        if path == self.hub.faults.held and not path.startswith("/content/"):
            self._hold()
        if path.startswith("/api/models/"):
            self._answer_api(path)
        elif path.startswith("/content/"):
            self._send_content(path.removeprefix("/content/"))
        else:
            found = re.fullmatch(rf"/{REPO}/resolve/([^/]+)/(.+)", path)
            if found and found[2] in self.hub.files:
                self._resolve(found[2])
            else:
                self._error(404, "EntryNotFound" if found else "RepoNotFound")

    def _answer_api(self, path):
        faults = self.hub.faults
        if faults.api_status is not None:
            self._error(faults.api_status, faults.error_code)
        elif not path.startswith(f"/api/models/{REPO}"):
            self._error(404, "RepoNotFound")
        elif "/tree/" in path:
            self._send_json([self._entry(name) for name in self.hub.files])
        elif path.rstrip("/").rpartition("/")[2] in ("main", COMMIT, REPO.split("/")[1]):
            self._send_json({"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": [], "private": False, "tags": []})
        else:
            self._error(404, "RevisionNotFound")

    def _entry(self, name):
        content = self.hub.files[name]
        entry = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        if len(content) > LARGE:
            entry["lfs"] = {"oid": self.hub.checksum(name), "size": len(content), "pointerSize": 134}
        else:
            entry["oid"] = self.hub.checksum(name)
        return entry

    def _resolve(self, name):
        content = self.hub.files[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{self.hub.checksum(name)}"'}
        if len(content) <= LARGE:
            self._send(200, content, headers)
            return
        headers |= {
            "X-Linked-Etag": headers["ETag"],
            "X-Linked-Size": str(len(content)),
            "Location": f"http://localhost:{self.hub.port}/content/{name}",
        }
        self._send(302, b"", headers)

    def _send_content(self, name):
        faults, content = self.hub.faults, self.hub.files[name]
        status = self.hub.take(faults.statuses)
        if status is not None:
            self._error(status, None)
            return
        start, status, headers = 0, 200, {"Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and not faults.ignores_ranges:
            start, status = int(asked[1]), 206
            stop = int(asked[2]) + 1 if asked[2] else len(content)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            content = content[:stop]
        if not self._is_part() and self.hub.take_corruption():
            content = content[:-1] + bytes([content[-1] ^ 1])
        self._head(status, len(content) - start, headers)
        self._send_body(name, content[start:])

    def _send_body(self, name, body):
        """A content, up to where a fault ends it or holds it."""
        faults = self.hub.faults
        end = self.hub.take(faults.drops.get(name, []))
        if end is not None:
            self._write(body[:end])
            self.close_connection = True
        elif faults.held == f"/content/{name}" and not self._is_part():
            self._write(body[: faults.held_after])
            self._hold()
            self._write(body[faults.held_after :])
        else:
            self._write(body)

    def _is_part(self):
        return not self.headers.get("Range", "-").endswith("-")

    def _hold(self):
        self.wfile.flush()
        self.hub.is_holding.set()
        self.hub.faults.release.wait()

    def _write(self, body):
        try:
            self.wfile.write(body)
            with self.hub.lock:
                self.hub.sent += len(body)
        except OSError:
            self.close_connection = True

    def _head(self, status, length, headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, status, body, headers):
        self._head(status, len(body), headers)
        if self.command != "HEAD":
            self._write_small(body)

    def _write_small(self, body):
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def _send_json(self, value):
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status, code):
        self._send(status, b"{}", {"X-Error-Code": code} if code else {})
