"""The bundled model, loaded once, and a server of it."""

from __future__ import annotations

import pytest

from tests.cli.serve.in_process import InProcess, on_a_socket
from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.runtime import open_runtime


@pytest.fixture(scope="session")
def demo():
    """The bundled model on the CPU, 4 rows."""
    return open_runtime(RuntimeSettings(model="demo", device="cpu"), rows=4)


@pytest.fixture(scope="session")
def _shared(demo):
    server = InProcess(demo)
    yield server
    server.close()


@pytest.fixture
def server(_shared):
    """A server that nothing is open on, before and after."""
    assert _shared.is_free_soon()
    yield _shared
    assert _shared.is_free_soon()


@pytest.fixture
def own_server(demo):
    """Makes servers with settings of a test's own."""
    servers = []

    def make(**settings):
        servers.append(InProcess(demo, **settings))
        return servers[-1]

    yield make
    for one in servers:
        one.close()


@pytest.fixture(scope="module")
def url(demo):
    """Where a server listens that a file's tests share, and on which nothing is open in the end."""
    server = InProcess(demo)
    with on_a_socket(server) as url:
        yield url
    assert server.is_free_soon()
    server.close()
