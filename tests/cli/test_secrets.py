"""No command shows, writes or traces back a key, wherever it was given and however it fails."""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants, get_token

from tests.cli.loopback_hub import REPO
from zaya_cli.models.credentials import prepare_hub_token, prepare_server_keys
from zaya_cli.models.folder import BUNDLED
from zaya_core.errors import UsageError
from zaya_core.redaction import is_secret_name, public_url, redacted

MARK = "PLANTED"  # in every secret, so that half of one is found, too
LOGIN = f"someone:{MARK}-word"
URL = f"http://{LOGIN}@127.0.0.1:9/v1?api-key={MARK}-query"
VARIABLES = {
    "HF_TOKEN": f"hf_{MARK}-first",
    "HUGGING_FACE_HUB_TOKEN": f"hf_{MARK}-second",
    "OPENAI_API_KEY": f"sk-{MARK}/key+",
    "OPENAI_ADMIN_KEY": f"sk-{MARK}-admin",
    "OPENAI_CUSTOM_HEADERS": f"X-Other: {MARK}-header",
    "HTTPS_PROXY": f"http://{LOGIN}-proxy@127.0.0.1:9",
    "HF_ENDPOINT": URL,
    "ZAYA_UNKNOWN": URL,
    "ZAYA_DEBUG": "1",
    "NO_PROXY": "127.0.0.1",
    "HF_HUB_OFFLINE": "0",
}
FORMS = [
    MARK,
    *(base64.b64encode(value.encode()).decode() for value in VARIABLES.values() if MARK in value),
    *(base64.b64encode(login.encode()).decode() for login in (LOGIN, f"{LOGIN}-proxy")),
]
RSA = ["--rsa", "2", "--rsa-rounds", "1", "--rsa-think", "9", "--rsa-tail", "4", "--rsa-answer", "4"]
ASK = ["run", "-p", "1+1", "-m", "demo", "--device", "cpu"]

# (exit code, arguments)
COMMANDS = [
    (0, [*ASK, "-n", "2", "--stats"]),
    (0, [*ASK, "-n", "2", "--format", "json"]),
    (0, [*ASK, *RSA, "--rsa-save", "saved", "--format", "jsonl"]),
    (2, [*ASK, "--top-p", "7"]),
    (2, [*ASK, f"--{URL}"]),
    (3, ["run", URL]),
    (3, ["run", "-p", "x", "-m", URL]),
    (3, ["run", "-p", "x", "-m", URL, "--format", "json"]),
    (7, [*ASK, *RSA, "--endpoint", URL, "--rsa-save", "saved"]),
    (7, [*ASK, *RSA, "--endpoint", f"other:{MARK}-bare@host"]),
    (0, ["chat", "-m", "demo", "-n", "2"]),
    (3, ["chat", "-m", URL]),
    (7, ["pull"]),
    (7, ["pull", "--dry-run", "--revision", URL]),
    (2, ["pull", URL]),
    (3, ["quantize"]),
    (3, ["quantize", "-m", URL]),
    (0, ["quantize", "-m", "demo", "--format", "int8", "-o", "made"]),
    (0, ["models"]),
    (0, ["models", "list", "--format", "json"]),
    (3, ["models", "rm", URL]),
    (3, ["models", "verify", URL]),
    (0, ["doctor", "--no-self-test", "--device", "cpu"]),
    (0, ["doctor", "--no-self-test", "--device", "cpu", "--format", "json"]),
    (0, ["config", "show"]),
    (0, ["config", "show", "--format", "json"]),
    (0, ["config", "path"]),
    (3, ["bench", "-m", URL]),
    (2, ["bench", "-m", "demo", "-n", URL]),
    (0, ["info", "-m", "demo"]),
    (3, ["info", URL]),
    (0, ["completion", "bash"]),
    (2, ["completion", URL]),
    (2, [URL]),
]


@pytest.fixture
def planted(monkeypatch, tmp_path):
    client = pytest.importorskip("openai", reason="the endpoint extra is not installed")._base_client.BaseClient
    monkeypatch.setattr(client, "_calculate_retry_timeout", lambda *_, **__: 0.0)  # seconds
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "ENDPOINT", URL)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def assert_clean(tmp_path, *texts):
    written = [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    names = [str(path) for path in tmp_path.rglob("*")]
    for text in (*texts, *written, *names):
        for form in FORMS:
            assert form not in text, text[max(0, text.index(form) - 200) :][:400]


@pytest.mark.parametrize(("code", "arguments"), COMMANDS, ids=lambda value: str(value)[:50])
def test_no_command_shows_or_writes_a_secret(zaya, planted, tmp_path, code, arguments):
    result = zaya(*arguments, piped="hello\n/info\n/save x\n" if arguments[0] == "chat" else "")
    assert result.code == code, result.err
    assert_clean(tmp_path, result.out, result.err)


def test_a_setting_that_holds_a_secret_is_shown_without(zaya, planted, monkeypatch, tmp_path):
    monkeypatch.setenv("ZAYA_MODEL", URL)
    shown = [zaya("config", "show", *more).out for more in ((), ("--format", "json"))]
    assert all("http://127.0.0.1:9/v1" in text for text in shown)
    assert_clean(tmp_path, *shown)


@contextmanager
def echoing_server():
    """Refuses everything, and quotes the key that it was given, cut at different places."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            seen.append(self.headers["Authorization"])
            body = json.dumps({"error": {"message": f"no {'x' * 150} {self.headers['Authorization']} {self.path}"}})
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_GET(self):
            self.headers["Content-Length"] = "0"
            self.do_POST()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("more", [[], ["--endpoint-model", "x"], ["--format", "json"]], ids=str)
def test_a_server_that_quotes_the_key_is_not_quoted(zaya, planted, tmp_path, monkeypatch, more):
    monkeypatch.setenv("OPENAI_API_KEY", f"\ufeff {VARIABLES['OPENAI_API_KEY']}\r\n")
    with echoing_server() as (port, seen):
        result = zaya(*ASK, *RSA, "--rsa-save", "saved", "--endpoint", f"http://127.0.0.1:{port}/v1?k={MARK}", *more)
    assert set(seen) == {f"Bearer {VARIABLES['OPENAI_API_KEY']}"}
    assert result.code == 7
    assert "401" in result.err
    assert_clean(tmp_path, result.out, result.err)


BAD = {
    "control": f"hf_{MARK}\x01x",
    "newline": f"hf_{MARK}\nx",
    "blank": f"hf_{MARK} x",
    "quotes": f"\u201chf_{MARK}\u201d",
    "c1": f"hf_{MARK}\x9b",
    "byte": f"hf_{MARK}\udce9",
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "OPENAI_ORG_ID"])
def test_what_cannot_be_a_key_is_named_and_not_shown(zaya, planted, monkeypatch, tmp_path, variable, value):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, value)
    result = zaya("pull") if variable.startswith("H") else zaya(*ASK, *RSA, "--endpoint", URL)
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith(f"zaya: {variable}: character ")
    assert_clean(tmp_path, result.out, result.err)


@pytest.mark.parametrize(
    ("content", "token"),
    [
        (b"", None),
        (b" \n", None),
        (b"hf_file\n", None),  # as huggingface_hub reads it by itself, and renews it
        (b"\xef\xbb\xbfhf_file\r\n", "hf_file"),
        (b"hf_fi\x00le", UsageError),
        ("hf_file".encode("utf-16"), UsageError),
        (b"hf_one\nhf_two\n", UsageError),
    ],
)
def test_the_file_of_the_login_is_read_like_a_variable(monkeypatch, tmp_path, content, token):
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "\n")
    path = tmp_path / "token"
    path.write_bytes(content)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(path))
    if token is UsageError:
        with pytest.raises(UsageError, match="character") as raised:
            prepare_hub_token()
        assert str(path) in str(raised.value)
        assert "hf_" not in str(raised.value)
    else:
        prepare_hub_token()
        assert (os.environ["HF_TOKEN"] or None) == token


def test_keys_are_trimmed_where_the_libraries_read_them(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", " \n")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "\ufeff hf_key \r\n")
    monkeypatch.setenv("OPENAI_API_KEY", "\tsk-key\n")
    prepare_hub_token()
    prepare_server_keys()
    assert (get_token(), os.environ["OPENAI_API_KEY"]) == ("hf_key", "sk-key")


class TestPull:
    @pytest.fixture
    def files(self):
        small = ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja")
        return {name: (BUNDLED / "demo" / name).read_bytes() for name in small} | {"model.safetensors": b"x" * 99}

    def test_a_trimmed_token_reaches_the_hub_and_no_file(self, zaya, hub, monkeypatch, tmp_path):
        monkeypatch.setenv("HF_TOKEN", f"\ufeffhf_{MARK}\r\n")
        result = zaya("pull", REPO)
        assert result.code == 0, result.err
        assert {request.authorization for request in hub.requests} == {f"Bearer hf_{MARK}", None}
        assert_clean(tmp_path, result.out, result.err)


def test_half_a_secret_and_its_other_spellings_are_found(monkeypatch):
    secret = f"sk-{MARK}/\u201c+\n tail"
    monkeypatch.setenv("SOME_API_KEY", secret)
    spellings = [secret, repr(secret), ascii(secret), json.dumps(secret), repr(secret.encode())]
    spellings += [base64.b64encode(secret.encode()).decode(), f"b'Bearer sk-{MARK}/'", f"sk-{MARK}%2F"]
    for spelling in spellings:
        for part in (spelling, spelling[:-4], f"{spelling[:12]}..."):
            shown = redacted(f"Illegal header value {part}!")
            assert MARK not in shown
            assert base64.b64encode(secret.encode()).decode()[:12] not in shown
    assert redacted("The tail of a sentence, some key") == "The tail of a sentence, some key"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://u:p@host/v1?key=x#y.", "see https://host/v1."),
        ('{"url": "http://u@host:8000"}', '{"url": "http://host:8000"}'),
        ("(http://host/a/b), really?", "(http://host/a/b), really?"),
        ("me@home and ~/a?b", "me@home and ~/a?b"),
    ],
)
def test_addresses_are_shown_without_login_and_query(text, shown):
    assert redacted(text) == shown


def test_an_address_of_version_6_keeps_its_form():
    assert public_url("http://u:p@[::1]:8000/v1/?a=b") == "http://[::1]:8000/v1/"


def test_names_of_variables_tell_what_is_secret():
    secret = ["HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "OPENAI_CUSTOM_HEADERS", "APIKEY"]
    public = ["HF_TOKEN_PATH", "TOKENIZERS_PARALLELISM", "HF_HOME", "KEYBOARD", "PASSWORD_STORE_DIR"]
    assert all(map(is_secret_name, secret))
    assert not any(map(is_secret_name, public))


def test_a_token_file_that_cannot_be_read_is_named_with_the_variables_that_place_it(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "file/token"))
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(UsageError, match=r"cannot be read \(Not a directory\): check HF_HOME"):
        prepare_hub_token()


def test_a_variable_that_names_a_place_hides_no_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("SSH_KEY", str(tmp_path / "id"))
    assert redacted(f"{tmp_path / 'prompt.txt'} does not exist") == f"{tmp_path / 'prompt.txt'} does not exist"
    monkeypatch.setenv("SECRET_KEY", "/nowhere/but+a/key==")
    assert "but+a" not in redacted("it is /nowhere/but+a/key==")


def test_logs_of_libraries_and_warnings_show_no_secret(zaya, planted, capsys):
    zaya("config", "path")
    record = logging.getLogger("huggingface_hub").makeRecord(
        "huggingface_hub", logging.WARNING, __file__, 1, "%s failed at %s \x1b[2J", (VARIABLES["HF_TOKEN"], URL), None
    )
    assert record.getMessage() == "*** failed at http://127.0.0.1:9/v1 \u241b[2J"
