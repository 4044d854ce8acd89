"""A page whose name was bound anew to this machine calls the server by that name, and is refused by it."""

from __future__ import annotations

import socket

import pytest

from tests.cli.serve.asking import Echo, ask, behind_guards
from zaya_cli.serve.guard.host import split_host

OWN = socket.gethostname()


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:8080", "LOCALHOST:8080", "localhost.", "a.localhost:1", "127.0.0.1", "127.1.2.3:99",
        "[::1]", "[::1]:8080", "10.1.2.3:8080", "192.168.0.9", "172.16.0.1", "[fd00::1]:8080", "169.254.1.1",
        "[::ffff:127.0.0.1]:8080", "host.docker.internal:8080", OWN, f"{OWN}.local",
    ],
)  # fmt: skip
def test_names_and_addresses_of_this_machine_are_known(host):
    assert ask(behind_guards(), host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost",
        "8.8.8.8", "[2001:4860:4860::8888]", "1.2.3.4:8080", "localhost.evil", "evil.local", "2130706433", "0x7f000001",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_strange_name_is_refused_before_anything_else(host, method):
    echo = Echo()
    reply = ask(behind_guards(echo, api_keys=("some-key",)), method, host=host)
    assert (reply.status, reply.error["type"], echo.scopes) == (403, "permission_error", [])


@pytest.mark.parametrize(
    "host",
    ["", " ", "a b", "user@localhost", "localhost:", "localhost:x", "localhost:123456", "[::1", "::1", "a/b", "a,b",
     "localhost\x00", "lo\xe7alhost", "[::1]x"],
)  # fmt: skip
def test_what_is_no_name_is_a_bad_request(host):
    assert ask(behind_guards(), host=host).status == 400


def test_a_request_has_one_host_and_a_path():
    guards = behind_guards()
    assert ask(guards, host=None).status == 400
    assert ask(guards, host=None, http_version="1.0").status == 200
    assert ask(guards, headers=[("host", "localhost")]).status == 400
    assert ask(guards, path="http://evil.example/v1/models").status == 400
    assert ask(guards, path="*", method="OPTIONS").status == 400


def test_names_that_were_allowed_are_known_with_those_below_where_asked():
    guards = behind_guards(allowed_hosts=("gpu.example.com", "*.lab.example"))
    for host, status in {
        "gpu.example.com:443": 200, "GPU.example.com.": 200, "a.lab.example": 200, "a.b.lab.example": 200,
        "lab.example": 403, "x.gpu.example.com": 403, "evillab.example": 403, "evil.example": 403, "localhost": 200,
    }.items():  # fmt: skip
        assert ask(guards, host=host).status == status, host


def test_the_address_that_a_client_has_reached_is_known():
    guards = behind_guards(host="0.0.0.0", insecure=True)
    assert ask(guards, host="8.8.8.8:8080", server=("8.8.8.8", 8080)).status == 200
    assert ask(guards, host="8.8.4.4:8080", server=("8.8.8.8", 8080)).status == 403


def test_where_others_reach_the_server_names_are_free_behind_a_key_alone():
    key = [("x-api-key", "some-key")]
    assert ask(behind_guards(host="0.0.0.0", api_keys=("some-key",)), host="nas.example", headers=key).status == 200
    assert ask(behind_guards(host="0.0.0.0", insecure=True), host="nas.example").status == 403
    named = behind_guards(host="0.0.0.0", api_keys=("some-key",), allowed_hosts=("a.example",))
    assert ask(named, host="nas.example", headers=key).status == 403
    assert ask(behind_guards(host="127.0.0.1", api_keys=("some-key",)), host="nas.example", headers=key).status == 403


def test_a_refused_name_is_shown_short():
    reply = ask(behind_guards(), host="x" * 5000)
    assert reply.status == 403
    assert len(reply.body) < 600


def test_hosts_are_split_as_browsers_write_them():
    assert split_host("[::1]:80") == ("::1", 80)
    assert split_host("Example.COM.") == ("example.com", None)
    assert split_host(".") is None
