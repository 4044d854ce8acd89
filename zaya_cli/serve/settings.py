"""The settings of a server, checked: what `zaya serve` was asked for, in the types that the server works with."""

from __future__ import annotations

from dataclasses import dataclass, field

from zaya_cli.flags.runtime import RuntimeSettings

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ServeSettings:
    """Times in seconds, sizes in bytes. The defaults are those of the flags.

    port: 0 takes any free one. api_keys: without any, everybody who can connect is answered. allowed_hosts: names by
    which the server may be called, beside its own. cors_origins: pages that may call it from a browser; "*" is all.
    rows: most answers at once. queue: most requests that wait for a row; queue_timeout: how long one does.
    request_timeout: most time for an answer. body_timeout: for a client to send its body. max_connections: open at
    once. drain: time for running answers after SIGTERM. ping: silence in a stream before a comment is sent.
    strict_model: refuse other names of models than the own. kv_memory: most memory for keys and values.
    """

    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    host: str = LOOPBACK
    port: int = 8080
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    rows: int = 16
    queue: int = 64
    queue_timeout: float = 600.0
    request_timeout: float | None = None
    body_timeout: float = 30.0
    max_body: int = 16 << 20
    max_connections: int = 256
    drain: float = 30.0
    ping: float = 15.0
    metrics: bool = False
    strict_model: bool = False
    insecure: bool = False
    kv_memory: int | None = None
