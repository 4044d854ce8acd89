"""The flags of `zaya serve`, and the checked settings that they become."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Annotated

import typer

from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.models.credentials import read_api_keys
from zaya_cli.serve.settings import LOOPBACK, ServeSettings
from zaya_cli.sizes import parsed_bytes
from zaya_cli.user_files import from_home
from zaya_core.errors import UsageError

_ADDRESS, _LIMITS, _API = "Address and access", "Limits", "API"
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|[0-9a-f:]*:[0-9a-f:.]+")  # an IPv6 address without []
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_LONGEST = 1e7  # seconds; clocks and selectors take no more


@dataclass(frozen=True)
class ServeFlags:
    """What was typed. Lists are texts with commas, as a variable and config.toml can hold them."""

    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    host: Annotated[
        str,
        typer.Option(
            "--host", envvar="ZAYA_HOST", rich_help_panel=_ADDRESS,
            help="Address to listen on. One that other machines reach needs a key, or --insecure.",
        ),
    ] = LOOPBACK  # fmt: skip
    port: Annotated[
        int,
        typer.Option(
            "--port", envvar="ZAYA_PORT", min=0, max=65535, help="0 takes any free one.", rich_help_panel=_ADDRESS
        ),
    ] = 8080
    api_key_file: Annotated[
        str | None,
        typer.Option(
            "--api-key-file", metavar="FILE", envvar="ZAYA_API_KEY_FILE", rich_help_panel=_ADDRESS,
            help="Keys that clients must send, one a line. One key can also be in the variable ZAYA_API_KEY.",
            show_default="everybody who can connect is answered",
        ),
    ] = None  # fmt: skip
    allowed_hosts: Annotated[
        str,
        typer.Option(
            "--allowed-host", metavar="NAMES", envvar="ZAYA_ALLOWED_HOST", rich_help_panel=_ADDRESS,
            help="More names that the server may be called by, with commas; *.NAME for all below one.",
            show_default="localhost, this machine's name, its own and private addresses",
        ),
    ] = ""  # fmt: skip
    cors_origins: Annotated[
        str,
        typer.Option(
            "--cors-origin", metavar="ORIGINS", envvar="ZAYA_CORS_ORIGIN", rich_help_panel=_ADDRESS,
            help="Pages that may call from a browser, as http://localhost:3000, with commas; * is all, with a key.",
            show_default="the server's own",
        ),
    ] = ""  # fmt: skip
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Listen for other machines without a key.", rich_help_panel=_ADDRESS),
    ] = False
    rows: Annotated[
        int,
        typer.Option(
            "--rows", envvar="ZAYA_ROWS", min=1, max=1024, help="Answers at once.", rich_help_panel=_LIMITS
        ),
    ] = 16  # fmt: skip
    kv_memory: Annotated[
        float | None,
        typer.Option(
            "--kv-memory", metavar="GB", envvar="ZAYA_KV_MEMORY", rich_help_panel=_LIMITS,
            help="Most memory for keys and values, such as 1.5.", show_default="0.8 of what is free",
        ),
    ] = None  # fmt: skip
    queue: Annotated[
        int,
        typer.Option(
            "--queue", envvar="ZAYA_QUEUE", min=0, max=100_000, rich_help_panel=_LIMITS,
            help="Requests that may wait; those beyond get status 429.",
        ),
    ] = 64  # fmt: skip
    queue_timeout: Annotated[
        float,
        typer.Option(
            "--queue-timeout", metavar="SECONDS", envvar="ZAYA_QUEUE_TIMEOUT", rich_help_panel=_LIMITS,
            help="A request that has waited so long is refused.",
        ),
    ] = 600.0  # fmt: skip
    request_timeout: Annotated[
        float | None,
        typer.Option(
            "--request-timeout", metavar="SECONDS", envvar="ZAYA_REQUEST_TIMEOUT", rich_help_panel=_LIMITS,
            help="An answer that takes longer is ended.", show_default="no limit",
        ),
    ] = None  # fmt: skip
    max_body: Annotated[
        str,
        typer.Option(
            "--max-body", metavar="SIZE", envvar="ZAYA_MAX_BODY", help="Largest request.", rich_help_panel=_LIMITS
        ),
    ] = "16MiB"
    max_connections: Annotated[
        int,
        typer.Option(
            "--max-connections", envvar="ZAYA_MAX_CONNECTIONS", min=1, max=100_000, help="Open at once.",
            rich_help_panel=_LIMITS,
        ),
    ] = 256  # fmt: skip
    drain: Annotated[
        float,
        typer.Option(
            "--drain", metavar="SECONDS", envvar="ZAYA_DRAIN", rich_help_panel=_LIMITS,
            help="Time for running answers after Ctrl-C or SIGTERM; a second signal ends at once.",
        ),
    ] = 30.0  # fmt: skip
    ping: Annotated[
        float,
        typer.Option(
            "--ping", metavar="SECONDS", envvar="ZAYA_PING", rich_help_panel=_API,
            help="Send a comment into a stream that has been silent for so long, or clients give up.",
        ),
    ] = 15.0  # fmt: skip
    metrics: Annotated[
        bool, typer.Option("--metrics", envvar="ZAYA_METRICS", help="Offer /metrics.", rich_help_panel=_API)
    ] = False
    strict_model: Annotated[
        bool,
        typer.Option(
            "--strict-model", envvar="ZAYA_STRICT_MODEL", rich_help_panel=_API,
            help="Refuse requests for a model of another name, in place of answering them.",
        ),
    ] = False  # fmt: skip

    def settings(self) -> ServeSettings:
        """Checked, with the keys that are named. Raises UsageError, and MissingFileError for a file of keys."""
        keys = read_api_keys(None if self.api_key_file is None else from_home(self.api_key_file))
        longest = self.request_timeout
        return ServeSettings(
            runtime=self.runtime, host=self._host(), port=self.port, api_keys=keys,
            allowed_hosts=self._hosts(), cors_origins=self._origins(bool(keys)), rows=self.rows, queue=self.queue,
            queue_timeout=_seconds("--queue-timeout", self.queue_timeout), max_body=self._max_body(),
            request_timeout=longest if longest is None else _seconds("--request-timeout", longest),
            max_connections=self.max_connections, drain=_seconds("--drain", self.drain, may_be_zero=True),
            ping=_seconds("--ping", self.ping), metrics=self.metrics, strict_model=self.strict_model,
            insecure=self.insecure, kv_memory=self._kv_memory(),
        )  # fmt: skip

    def _host(self) -> str:
        if not self.host.strip():
            raise UsageError(f"--host is empty: give an address, such as {LOOPBACK}, or 0.0.0.0.")
        return self.host.strip()

    def _hosts(self) -> tuple[str, ...]:
        names = tuple(name.strip("[]").rstrip(".") for name in _listed(self.allowed_hosts))
        for name in names:
            if not _NAME.fullmatch(name):
                raise UsageError(f"--allowed-host {name!r} is no name of a host: give one without scheme and port.")
        return names

    def _origins(self, has_keys: bool) -> tuple[str, ...]:
        origins = tuple(origin.rstrip("/") for origin in _listed(self.cors_origins))
        for origin in origins:
            if origin == "*" and not has_keys:
                raise UsageError("--cors-origin * lets every page in a browser ask: it needs a key (--api-key-file).")
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise UsageError(f"--cors-origin {origin!r} is no origin: give it as http://localhost:3000.")
        return origins

    def _max_body(self) -> int:
        try:
            size = parsed_bytes(self.max_body)
        except ValueError:
            size = 0
        if not 1 <= size <= 1 << 40:
            raise UsageError(f"--max-body is {self.max_body!r}; it must be a size such as 16MiB or 500kB.")
        return size

    def _kv_memory(self) -> int | None:
        if self.kv_memory is None:
            return None
        if not 0 < self.kv_memory * 1e9 < math.inf:
            raise UsageError(f"--kv-memory is {self.kv_memory:g}; it must be a number of GB above 0, such as 1.5.")
        return int(self.kv_memory * 1e9)


def _listed(text: str) -> list[str]:
    return [one.strip().lower() for one in text.split(",") if one.strip()]


def _seconds(flag: str, value: float, may_be_zero: bool = False) -> float:
    if not 0 <= value <= _LONGEST or (value == 0 and not may_be_zero):
        least = "from 0" if may_be_zero else "above 0 and"
        raise UsageError(f"{flag} is {value:g}; it must be a number of seconds {least} up to {_LONGEST:,.0f}.")
    return value
