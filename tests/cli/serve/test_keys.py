"""Who has no key of the server is told nothing but that; who has one is told apart from the others."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from tests.cli.serve.asking import Echo, ask, behind_guards

KEYS = ("first-secret-key", "second-secret-key")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer wrong")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer")],
        [("Authorization", "")],
        [("Authorization", KEYS[0])],
        [("Authorization", f"Basic {KEYS[0]}")],
        [("Authorization", f"Bearer {KEYS[0]}x")],
        [("Authorization", f"Bearer {KEYS[0][:-1]}")],
        [("Authorization", f"Bearer {KEYS[0].upper()}")],
        [("Authorization", f"Bearer {KEYS[0]} {KEYS[1]}")],
        [("Authorization", "Bearer sch\xfcssel")],
        [("Authorization", f"Bearer {'x' * 20_000}")],
        [("x-api-key", "")],
        [("x-api-key", "wrong")],
        [("x-api-key", f"Bearer {KEYS[0]}")],
        [("Cookie", KEYS[0])],
    ],
)
def test_without_a_right_key_nothing_is_reached(headers):
    echo = Echo()
    reply = ask(behind_guards(echo, api_keys=KEYS), headers=headers)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.error["type"] == "authentication_error"
    assert reply.error["code"] == "invalid_api_key"
    assert not echo.scopes
    assert not any(key in reply.body.decode() for key in KEYS)


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", f"Bearer {KEYS[0]}")],
        [("authorization", f"bearer   {KEYS[1]} ")],
        [("x-api-key", KEYS[0])],
        [("Authorization", "Bearer undefined"), ("x-api-key", KEYS[0])],
    ],
)
def test_a_right_key_in_either_header_is_enough(headers):
    assert ask(behind_guards(api_keys=KEYS), headers=headers).status == 200


def test_a_server_without_keys_takes_any_that_clients_send():
    for headers in ([], [("Authorization", "Bearer DUMMY_KEY")], [("Authorization", "Bearer ")]):
        assert ask(behind_guards(), headers=headers).status == 200


def test_health_is_public_and_no_path_that_looks_like_it():
    guards = behind_guards(api_keys=KEYS)
    assert ask(guards, path="/health").status == 200
    for path in ("/health/", "/Health", "//health", "/health/../v1/models", "/metrics", "/slots", "/"):
        assert ask(guards, path=path).status == 401


def test_two_keys_are_two_users_and_a_key_does_not_stand_in_its_name():
    echo = Echo()
    guards = behind_guards(echo, api_keys=KEYS)
    for key in (*KEYS, KEYS[0]):
        ask(guards, headers=[("Authorization", f"Bearer {key}")])
    owners = [scope["state"]["owner"] for scope in echo.scopes]
    assert owners[0] == owners[2] != owners[1]
    assert all(owner and key not in owner for owner, key in zip(owners, KEYS, strict=False))
    own = Echo()
    ask(behind_guards(own), headers=[("Authorization", "Bearer other")])
    assert own.scopes[0]["state"]["owner"] == ""


def test_a_client_chooses_no_owner_by_itself():
    echo = Echo()
    ask(behind_guards(echo), state={"owner": hashlib.sha256(b"victim").hexdigest()})
    assert echo.scopes[0]["state"]["owner"] == ""


def test_keys_are_compared_in_constant_time_and_all_of_them(monkeypatch):
    compared, real = [], hmac.compare_digest

    def compare(a, b):
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    ask(behind_guards(api_keys=KEYS), headers=[("x-api-key", KEYS[0])])
    assert len(compared) == len(KEYS)
