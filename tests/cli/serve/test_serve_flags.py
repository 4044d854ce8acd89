"""What `zaya serve` is told by flags, variables and config.toml, and what it refuses before it begins."""

from __future__ import annotations

import socket

import pytest

from zaya_cli.serve import run
from zaya_cli.serve.flags import ServeFlags
from zaya_cli.serve.http.sockets import listen, url_of
from zaya_cli.serve.settings import ServeSettings
from zaya_core.errors import MissingFileError, UsageError


@pytest.fixture
def asked(zaya, monkeypatch):
    """The settings that `zaya serve ARGUMENTS` would serve with, or the result of a refusal."""
    pytest.importorskip("starlette")
    seen: list = []
    monkeypatch.setattr(run, "serve", seen.append)

    def ask(*arguments):
        seen.clear()
        result = zaya("serve", *arguments)
        assert "Traceback" not in result.err
        return seen[0] if seen else result

    return ask


def test_the_defaults_of_flags_and_settings_are_the_same(asked):
    assert asked() == ServeFlags().settings() == ServeSettings()


def test_a_flag_wins_over_a_variable_and_that_over_the_file(asked, tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    path.write_text(
        'port = 1\nrows = 2\nqueue = 3\nmax_body = "1kB"\ncors_origin = "http://a.example"\nmetrics = true\n'
    )
    monkeypatch.setenv("ZAYA_CONFIG", str(path))
    monkeypatch.setenv("ZAYA_ROWS", "20")
    monkeypatch.setenv("ZAYA_QUEUE", "30")
    monkeypatch.setenv("ZAYA_ALLOWED_HOST", "A.example, *.b.example ,[fd00::2]")
    settings = asked("--queue", "300", "--request-timeout", "9.5", "--kv-memory", "1.5")
    assert (settings.port, settings.rows, settings.queue, settings.max_body) == (1, 20, 300, 1000)
    assert settings.allowed_hosts == ("a.example", "*.b.example", "fd00::2")
    assert settings.cors_origins == ("http://a.example",)
    assert (settings.metrics, settings.request_timeout, settings.kv_memory) == (True, 9.5, 1_500_000_000)


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--port", "65536", "0 to 65535"),
        ("--port", "http", "--port"),
        ("--rows", "0", "1 to 1024"),
        ("--queue", "-1", "--queue"),
        ("--max-connections", "0", "--max-connections"),
        ("--queue-timeout", "0", "seconds above 0"),
        ("--request-timeout", "nan", "seconds above 0"),
        ("--drain", "inf", "seconds from 0"),
        ("--drain", "-1", "seconds from 0"),
        ("--ping", "0", "seconds above 0"),
        ("--max-body", "0", "16MiB"),
        ("--max-body", "much", "16MiB"),
        ("--max-body", "9" * 400, "16MiB"),
        ("--kv-memory", "0", "GB above 0"),
        ("--kv-memory", "nan", "GB above 0"),
        ("--host", " ", "--host is empty"),
        ("--allowed-host", "http://a.example", "no name"),
        ("--allowed-host", "a.example:80", "no name"),
        ("--allowed-host", "*", "no name"),
        ("--cors-origin", "a.example", "no origin"),
        ("--cors-origin", "http://a.example/path", "no origin"),
        ("--cors-origin", "null", "no origin"),
        ("--cors-origin", "*", "needs a key"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_its_flag(asked, flag, value, said):
    result = asked(flag, value)
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("text", ["1", "2000B", "2k", "2kB", "2KB", "2KiB", "1.5 MiB", "16mib", "1GiB"])
def test_sizes_are_read_with_their_units(text):
    sizes = {"1": 1, "2000B": 2000, "2k": 2000, "2kB": 2000, "2KB": 2000, "2KiB": 2048, "1.5 MiB": 3 << 19,
             "16mib": 16 << 20, "1GiB": 1 << 30}  # fmt: skip
    assert ServeFlags(max_body=text).settings().max_body == sizes[text]


def test_keys_come_from_a_file_and_a_variable_and_are_shown_nowhere(asked, tmp_path, monkeypatch):
    path = tmp_path / "keys"
    path.write_bytes(b"\xef\xbb\xbf first-secret-key \r\n\r\nsecond-secret-key\n")
    monkeypatch.setenv("ZAYA_API_KEY", " third-secret-key\n")
    settings = asked("--api-key-file", path)
    assert settings.api_keys == ("third-secret-key", "first-secret-key", "second-secret-key")
    assert "secret" not in repr(settings)
    from zaya_core.redaction import redacted

    assert "secret" not in redacted("first-secret-key, third-secret-key")


def test_a_variable_with_a_key_is_no_misspelled_one(zaya, monkeypatch):
    monkeypatch.setenv("ZAYA_API_KEY", "third-secret-key")
    result = zaya("models")
    assert "ZAYA_API_KEY" not in result.err


@pytest.mark.parametrize(
    "content", [b"", b"\n \n", b"two words\n", b"caf\xc3\xa9-key", b"\xff\xfe", b"good-key\nbad\x07key"]
)
def test_a_file_without_usable_keys_is_refused_without_showing_them(tmp_path, content):
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        ServeFlags(api_key_file=str(path)).settings()
    assert str(path) in str(refused.value)
    assert not any(word in str(refused.value) for word in ("two", "caf", "bad"))
    with pytest.raises(MissingFileError):
        ServeFlags(api_key_file=str(tmp_path / "none")).settings()


def test_there_is_no_option_with_a_key_in_it(zaya):
    assert zaya("serve", "--api-key", "some-secret-key").code == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_let_in_with_a_key_or_when_told_so(host):
    with pytest.raises(UsageError, match="no key"):
        listen(ServeSettings(host=host, port=0))
    for settings in (
        ServeSettings(host=host, port=0, api_keys=("k",)),
        ServeSettings(host=host, port=0, insecure=True),
    ):
        for one in listen(settings):
            one.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_no_key(host):
    sockets = listen(ServeSettings(host=host, port=0))
    assert len({one.getsockname()[1] for one in sockets}) == 1
    assert url_of(sockets).startswith("http://")
    for one in sockets:
        one.close()


def test_a_port_in_use_is_one_sentence(zaya):
    pytest.importorskip("starlette")
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = zaya("serve", "--port", other.getsockname()[1], "-m", "demo")
    assert result.code == 2
    assert "is in use by another program: give another --port" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("host", ["no.such.host.invalid", "1.2.3.4", "256.1.1.1", "x" * 300, "a\nb"])
def test_a_host_that_is_none_of_this_machine_is_one_sentence(host):
    with pytest.raises(UsageError, match=r"--host|listened") as refused:
        listen(ServeSettings(host=host, port=0, insecure=True))
    assert "\n" not in str(refused.value)


def test_a_missing_extra_is_one_sentence(zaya, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = zaya("serve")
    assert result.code == 2
    assert "pip install '.[serve]'" in result.err
    assert result.err.count("\n") == 1
