"""Proxies of the environment: which address needs one, and what is said of one that cannot be used."""

from __future__ import annotations

import sys

import pytest

from zaya_core.errors import NetworkError
from zaya_core.proxies import Route, by_way_of, is_loopback, route_to

HUB = "https://hub.example/x"
DIRECT, AS_CLIENT = Route(), Route(by_client=True)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return monkeypatch.setenv


@pytest.mark.parametrize(
    "url",
    ["http://localhost:1/v1", "http://LOCALHOST./", "http://127.0.0.1", "http://127.9.8.7:80", "http://[::1]:8000/v1",
     "http://a.localhost", "http://[::ffff:127.0.0.1]/", "http://0.0.0.0:8000", "http://me:secret@127.0.0.1/v1"],
)  # fmt: skip
def test_this_machine_needs_no_proxy_however_odd_the_variables_are(environment, url):
    environment("ALL_PROXY", "socks://127.0.0.1:9")
    environment("HTTP_PROXY", "http://proxy:3128")
    assert is_loopback(url)
    assert (route_to(url), by_way_of(url)) == (DIRECT, "")


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1", "http://localhost.example", "http://128.0.0.1", "http://[::2]", "x", ""]
)
def test_other_machines_are_no_loopback(url):
    assert not is_loopback(url)


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks://127.0.0.1:9", "write socks5://host:port"),
        ("socks4://127.0.0.1:9", "write socks5://host:port"),
        ("socks5://127.0.0.1:9", "pip install socksio"),
        ("socks5h://me:secret@127.0.0.1:9", "pip install socksio"),
        ("ftp://127.0.0.1:9", "write http://host:port"),
        ("http://", "is no proxy's URL"),
        ("http://me:secret@", "is no proxy's URL"),
        ("://x", "is no proxy's URL"),
        ("http://host:secret", "is no proxy's URL"),
        ("host:secret", "is no proxy's URL"),
        ("http://host:99999", "is no proxy's URL"),
        ("http://[::1", "is no proxy's URL"),
        ("http://a secret b:3128", "is no proxy's URL"),
        ("http://me:secret\x07@host:1", "is no proxy's URL"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_sentence_with_the_variable_and_no_password(environment, name, value, words):
    environment(name, value)
    with pytest.raises(NetworkError) as raised:
        route_to(HUB)
    message = str(raised.value)
    assert message.startswith(f"{name} ") and words in message and message.endswith(".")
    assert "secret" not in message


def test_an_odd_variable_that_is_not_needed_is_passed_over(environment):
    environment("ALL_PROXY", "socks://127.0.0.1:9")
    environment("HTTPS_PROXY", "proxy:3128")
    assert route_to(HUB) == Route("http://proxy:3128")
    environment("NO_PROXY", "hub.example")
    assert route_to(HUB) == DIRECT


@pytest.mark.parametrize("value", ["*", "hub.example", ".example", "other, hub.example"])
def test_no_proxy_is_respected_also_beside_an_odd_variable(environment, value):
    environment("all_proxy", "socks://127.0.0.1:9")
    environment("NO_PROXY", value)
    assert (route_to(HUB), by_way_of(HUB)) == (DIRECT, "")


@pytest.mark.parametrize("value", ["", "http://proxy:3128", "proxy:3128", "HTTP://proxy", "https://me:secret@proxy"])
def test_sound_variables_are_read_by_the_client(environment, value):
    environment("HTTPS_PROXY", value)
    assert route_to(HUB) == AS_CLIENT
    assert by_way_of(HUB) == (" through the proxy of HTTPS_PROXY" if value else "")


def test_a_socks_proxy_is_used_where_its_package_is_there(environment, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    environment("ALL_PROXY", "socks5://127.0.0.1:9")
    assert route_to(HUB) == AS_CLIENT


def test_a_route_does_not_show_its_password():
    assert "secret" not in repr(Route("http://me:secret@proxy"))
