"""Which address and which model of it is asked, whatever was typed."""

from __future__ import annotations

import pytest

from tests.core.rsa.faulty_server import Behaviour, served
from tests.core.rsa.servers import ONE, run
from zaya_core.errors import NetworkError, UsageError
from zaya_core.redaction import public_url
from zaya_core.rsa.endpoint import EndpointGenerator
from zaya_core.rsa.endpoint.address import base_urls, is_trusted
from zaya_core.rsa.endpoint.models import choose_model, entries_of

pytest.importorskip("openai", reason="the endpoint extra is not installed")
pytestmark = pytest.mark.usefixtures("direct")


@pytest.mark.parametrize(
    ("given", "bases"),
    [
        ("http://h:1/v1", ["http://h:1/v1"]),
        (" http://h:1/v1/ ", ["http://h:1/v1"]),
        ("http://h:1", ["http://h:1/v1", "http://h:1"]),
        ("http://h:1/", ["http://h:1/v1", "http://h:1"]),
        ("h:1", ["http://h:1/v1", "http://h:1"]),
        ("localhost", ["http://localhost/v1", "http://localhost"]),
        ("//h:1/v1", ["http://h:1/v1"]),
        ("h:443", ["https://h/v1", "https://h"]),
        ("HTTPS://H/V1", ["https://h/V1", "https://h/V1/v1"]),
        ("http://h:1/v1/chat/completions", ["http://h:1/v1"]),
        ("http://h:1/v1/completions/", ["http://h:1/v1"]),
        ("http://h:1/v1/models?limit=3", ["http://h:1/v1"]),
        ("http://h:1//v1", ["http://h:1/v1"]),
        ("https://h/api", ["https://h/api", "https://h/api/v1"]),
        ("https://h/api/v1beta", ["https://h/api/v1beta"]),
        ("[::1]:8000", ["http://[::1]:8000/v1", "http://[::1]:8000"]),
        ("http://a:b@h/v1", ["http://a:b@h/v1"]),
    ],
)
def test_what_was_typed_is_read_as_it_was_meant(given, bases):
    assert base_urls(given) == bases


def test_no_message_shows_the_password_of_an_address():
    assert public_url("http://me:secret@host/v1") == "http://host/v1"
    assert public_url("me:secret@host/v1") == "host/v1"
    assert public_url("http://me:s@c/r@t@host/v1") == "http://host/v1"


@pytest.mark.parametrize("path", ["", "/", "/v1/", "/v1/chat/completions", "/v1/models"])
def test_the_address_of_the_protocol_is_found_and_said(tokenizer, path):
    result, generator = run(Behaviour(), tokenizer, ONE, path=path)
    assert result.text == "\\boxed{3}"
    assert generator.url.endswith("/v1")
    assert generator.notes == [f"--endpoint {generator.url.removesuffix('/v1')}{path}: {generator.url} is asked."]


@pytest.mark.parametrize(
    ("root", "path"), [("", ""), ("/api/v1", "/api"), ("/api", "/api"), ("/openai/v1", "/openai/")]
)
def test_a_server_may_keep_its_pages_elsewhere(tokenizer, root, path):
    result, generator = run(Behaviour(root=root), tokenizer, ONE, path=path)
    assert result.text == "\\boxed{3}"
    assert generator.url.endswith(root)


def test_a_model_that_is_named_needs_no_list(tokenizer):
    def none(handler):
        handler.error(404, "no list")

    result, generator = run(Behaviour(models=none), tokenizer, ONE, path="", model="mine")
    assert (result.text, generator.model) == ("\\boxed{3}", "mine")


def test_no_server_at_any_address_names_all_that_were_tried(tokenizer):
    with served(Behaviour(root="/other")) as url:
        base = url.removesuffix("/v1")
        with pytest.raises(NetworkError) as raised:
            EndpointGenerator(base, tokenizer, 4096)
    assert f"{url} answered 404" in str(raised.value) and f"{base} answered 404" in str(raised.value)


def test_a_web_page_in_place_of_the_list_is_no_server(tokenizer):
    def page(handler):
        handler.reply_bytes(200, b"<html>chat</html>", "text/html")

    with served(Behaviour(models=page)) as url, pytest.raises(NetworkError, match="not the OpenAI protocol"):
        EndpointGenerator(url, tokenizer, 4096)


@pytest.mark.parametrize("listing", [{"data": {}}, {"object": "list"}, 5, "x", None])
def test_what_is_no_list_is_a_value_error(listing):
    with pytest.raises(ValueError):
        entries_of(listing)


def test_redirects_without_end_are_not_repeated(tokenizer):
    asked = []

    def loop(handler):
        asked.append(handler.path)
        handler.reply_bytes(302, b"", Location=handler.path)

    with served(Behaviour(models=loop)) as url, pytest.raises(NetworkError, match="redirect"):
        EndpointGenerator(url, tokenizer, 4096)
    assert len(asked) < 30


def test_a_redirect_to_another_path_is_followed_by_all_requests(tokenizer):
    def moved(handler):
        behaviour.root, behaviour.models = "/v2", ({"id": "served"},)
        handler.reply_bytes(301, b"", Location="/v2/models")

    behaviour = Behaviour(models=moved)
    result, generator = run(behaviour, tokenizer, ONE)
    assert (result.text, generator.url.endswith("/v2")) == ("\\boxed{3}", True)


# --- other servers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("http://h:1/v2/models", "http://h:1/v1", True),
        ("http://h:80/v1/models", "http://h/v1", True),
        ("https://H/v1/models", "https://h:443/v1", True),
        ("http://a:b@h/v1/models", "http://h/v1", True),
        ("https://h/v1/models", "http://h/v1", True),
        ("https://h:8000/v1/models", "http://h:8000/v1", True),
        ("https://h/v1/models", "http://h:8000/v1", True),
        ("https://h:8001/v1/models", "http://h:8000/v1", False),
        ("http://h:2/v1/models", "http://h:1/v1", False),
        ("http://h/v1/models", "https://h/v1", False),
        ("http://h:443/v1/models", "https://h/v1", False),
        ("https://h.other/v1/models", "https://h/v1", False),
        ("https://other/v1/models", "http://h/v1", False),
        ("https://h@other/v1/models", "https://h/v1", False),
        ("ftp://h/v1/models", "http://h/v1", False),
        ("http://[::2]/v1", "http://[::1]/v1", False),
        ("http://[0:0::1]/v1", "http://[::1]/v1", True),
    ],
)
def test_what_is_meant_for_a_server_is_sent_to_no_other(url, base, expected):
    assert is_trusted(url, base) is expected


@pytest.fixture
def stranger(monkeypatch):
    """The URL of a server that nobody named, and the requests it got."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-the-first")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Api-Key: for-the-first")
    asked: list = []

    def listing(handler):
        asked.append(dict(handler.headers))
        handler.reply(200, {"data": [{"id": "served"}]})

    behaviour = Behaviour(models=listing)
    behaviour.seen = asked
    with served(behaviour) as url:
        yield url, asked


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_server_is_told_and_gets_nothing(tokenizer, stranger, status):
    url, asked = stranger
    behaviour = Behaviour(models=lambda handler: handler.reply_bytes(status, b"", Location=f"{url}/models"))
    with served(behaviour) as first, pytest.raises(NetworkError) as raised:
        EndpointGenerator(first, tokenizer, 4096)
    assert f"{first} redirects to {url}, another server" in str(raised.value)
    assert asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_prompt_follows_a_redirect_to_another_server(tokenizer, stranger, status):
    url, asked = stranger

    def moved(handler, body):
        handler.reply_bytes(status, b"", Location=url + handler.path.removeprefix("/v1"))

    with served(Behaviour(fault=lambda number: moved)) as first, pytest.raises(NetworkError, match="another server"):
        EndpointGenerator(first, tokenizer, 4096, model="served")
    with pytest.raises(NetworkError, match=f"redirects to {url}, another server"):
        run(Behaviour(fault=lambda number: moved), tokenizer, ONE)
    assert asked == []


def test_a_page_that_leads_to_another_server_does_not_hide_the_protocol_below(tokenizer, stranger):
    url, asked = stranger

    def portal(handler):
        behaviour.root, behaviour.models = "/api/v1", ({"id": "served"},)
        handler.reply_bytes(302, b"", Location=f"{url}/login")

    behaviour = Behaviour(root="/api", models=portal)
    result, generator = run(behaviour, tokenizer, ONE, path="/api")
    assert (result.text, generator.url.endswith("/api/v1"), asked) == ("\\boxed{3}", True, [])


def test_a_redirect_keeps_the_login_that_was_given(tokenizer):
    keys: list = []

    def models(handler):
        if behaviour.root == "/v1":
            behaviour.root = "/v2"
            handler.reply_bytes(308, b"", Location=f"http://{handler.headers['Host']}/v2/models")
        else:
            handler.reply(200, {"data": [{"id": "served"}]})

    def noted(handler, body):
        keys.append(handler.headers["Authorization"])
        handler.complete(body)

    behaviour = Behaviour(models=models, fault=lambda number: noted)
    with served(behaviour) as url:
        generator = EndpointGenerator(url.replace("://", "://me:secret@"), tokenizer, 4096)
    assert generator.url == url.replace("/v1", "/v2")
    assert keys and all(key.startswith("Basic ") for key in keys)


# --- chats alone ------------------------------------------------------------------------------------------------------


def only_chats(status=200, content=b"", kind="application/json"):
    """A fault of a server whose `/completions` answers with this."""

    def answer(handler, body):
        if handler.path.endswith("/chat/completions"):
            handler.chat(body)
        else:
            handler.reply_bytes(status, content, kind)

    return lambda number: answer


ANSWERS = [
    (200, b"<!doctype html><html></html>", "text/html"),
    (200, b"Not Found", "text/plain"),
    (200, b'{"detail": "Not Found"}', "application/json"),
    (200, b'{"choices": []}', "application/json"),
    (200, b"[]", "application/json"),
    (200, b"", "text/event-stream"),
    (200, b"data: [DONE]\n\n", "text/event-stream"),
    (204, b"", "application/json"),
    *((status, b'{"error": {"message": "shut"}}', "application/json") for status in (403, 404, 405, 410, 500, 501)),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_chats_are_used_where_completions_answer_nothing_of_use(tokenizer, answer):
    result, generator = run(Behaviour(fault=only_chats(*answer)), tokenizer, ONE, from_start=True)
    assert (result.text, generator.dialect.kind) == ("\\boxed{3}", "chat")
    assert any("chat completions are used" in note for note in generator.notes)


def test_chats_are_used_where_completions_lead_to_another_server(tokenizer, stranger):
    def moved(handler, body):
        if handler.path.endswith("/chat/completions"):
            handler.chat(body)
        else:
            handler.reply_bytes(307, b"", Location=f"{stranger[0]}/completions")

    _, generator = run(Behaviour(fault=lambda number: moved), tokenizer, ONE, from_start=True)
    assert (generator.dialect.kind, stranger[1]) == ("chat", [])


@pytest.mark.parametrize(
    ("completions", "chat", "told"),
    [
        (403, 404, "answered 403"),
        (410, 404, "answered 410"),
        (403, 403, "answered 403"),
        (404, 403, "answered 403"),
        (410, 429, "answered 429"),
        (200, 404, "answered 404"),
        (404, 200, "not the OpenAI protocol"),
        (200, 200, "not the OpenAI protocol"),
        (403, 200, "answered 403"),
    ],
)
def test_where_chats_fail_as_well_the_refusal_that_says_most_is_told(tokenizer, completions, chat, told):
    def answer(handler, body):
        status = chat if handler.path.endswith("/chat/completions") else completions
        handler.reply(status, {"detail": "no"})

    with served(Behaviour(fault=lambda number: answer)) as url, pytest.raises(NetworkError, match=told):
        EndpointGenerator(url, tokenizer, 4096, retries=1)


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["anything"], "anything"),
        (["Llama", "Zyphra/ZAYA1-8B"], "Zyphra/ZAYA1-8B"),
        (["bge-m3", "text-embedding-3", "zaya"], "zaya"),
        (["zaya-embedding", "my-Zaya-q4"], "my-Zaya-q4"),
        (["served", "served"], "served"),
    ],
)
def test_the_only_model_is_taken_and_of_several_the_one_named_zaya(tokenizer, names, chosen):
    result, generator = run(Behaviour(models=[{"id": name} for name in names]), tokenizer, ONE)
    assert (generator.model, result.text) == (chosen, "\\boxed{3}")


@pytest.mark.parametrize(
    "names",
    [["llama", "qwen"], ["bge-m3", "llama"], ["zaya1", "zaya2"], ["text-embedding-3-small"], ["bge-reranker"], []],
)
def test_where_the_model_is_not_plain_the_names_are_listed_and_the_flag_is_named(names):
    with pytest.raises(UsageError, match="--endpoint-model") as raised:
        choose_model(names, "http://h/v1")
    assert all(name in str(raised.value) for name in names)


def test_odd_entries_of_the_list_are_passed_over():
    listing = {"data": [None, 5, {}, {"id": None}, {"id": ""}, {"id": 7}, {"id": "one"}]}
    assert list(entries_of(listing)) == ["one"]
    with pytest.raises(UsageError, match="and 30 more"):
        choose_model([f"model{number}" for number in range(40)], "http://h/v1")


def test_a_model_that_is_not_there_is_named_beside_those_that_are(tokenizer):
    def unknown(handler, body):
        handler.error(404, f"The model `{body['model']}` does not exist.")

    behaviour = Behaviour(fault=lambda number: unknown)
    with served(behaviour) as url, pytest.raises(UsageError) as raised:
        EndpointGenerator(url, tokenizer, 4096, model="typo")
    assert "model typo, answered 404" in str(raised.value) and "It lists served." in str(raised.value)


def test_a_listed_model_that_is_not_there_is_the_server_s_fault(tokenizer):
    def unknown(handler, body):
        handler.error(404, "gone")

    with served(Behaviour(fault=lambda number: unknown)) as url, pytest.raises(NetworkError, match="It lists served"):
        EndpointGenerator(url, tokenizer, 4096)


@pytest.mark.parametrize("names", [["llama", "qwen"], []])
def test_a_server_whose_models_are_not_plain_asks_for_another_command_line(tokenizer, names):
    models = [{"id": name} for name in names]
    with served(Behaviour(models=models), "") as url, pytest.raises(UsageError, match="--endpoint-model"):
        EndpointGenerator(url, tokenizer, 4096)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_one_sentence_that_is_not_repeated(tokenizer, status):
    asked = []

    def refuse(handler):
        asked.append(handler.path)
        handler.error(status, "no key")

    with served(Behaviour(models=refuse), "") as url, pytest.raises(NetworkError) as raised:
        EndpointGenerator(url, tokenizer, 4096)
    assert str(raised.value).count(". ") == 1 and str(raised.value).endswith("Set OPENAI_API_KEY.")
    assert len(asked) == 1
