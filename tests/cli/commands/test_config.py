"""Flag over variable over config.toml over generation_config.json over built-in; a wrong value names its source."""

from __future__ import annotations

import json
import re

import pytest

from zaya_cli.app import all_settings
from zaya_cli.flags.settings import defaults_by_command

SETTINGS = all_settings()


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Write config.toml."""
    path = tmp_path / "config.toml"
    monkeypatch.setenv("ZAYA_CONFIG", str(path))

    def write(text):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def seed_of(zaya, folder, *more):
    result = zaya("run", "-p", "x", "-m", folder, "-n", "2", "--format", "json", *more)
    assert result.code == 0, result.err
    return json.loads(result.out)["seed"]


def test_a_flag_wins_over_a_variable_over_the_file(zaya, folder, config, monkeypatch):
    config("seed = 1\n")
    assert seed_of(zaya, folder) == 1
    monkeypatch.setenv("ZAYA_SEED", "2")
    assert seed_of(zaya, folder) == 2
    assert seed_of(zaya, folder, "--seed", "3") == 3


def test_the_file_wins_over_generation_config_over_the_built_in(zaya, folder, config, tmp_path):
    def shown():
        return json.loads(zaya("config", "show", "--format", "json").out)["temperature"]

    config("")
    assert shown() == {"value": None, "origin": "built-in"}
    with_defaults = tmp_path / "model"
    with_defaults.mkdir()
    for path in folder.iterdir():
        (with_defaults / path.name).symlink_to(path)
    (with_defaults / "generation_config.json").unlink(missing_ok=True)
    (with_defaults / "generation_config.json").write_text('{"temperature": 0.3}')
    path = config(f"model = {json.dumps(str(with_defaults))}\n")
    assert shown() == {"value": 0.3, "origin": str(with_defaults / "generation_config.json")}
    config(path.read_text() + "temperature = 0.5\n")
    assert shown() == {"value": 0.5, "origin": str(path)}


def test_what_the_file_sets_reaches_the_model(zaya, folder, config):
    config(f"model = {json.dumps(str(folder))}\nmax_tokens = 3\nthinking = 'off'\ntemperature = 0\n")
    value = json.loads(zaya("run", "-p", "x", "--format", "json").out)
    assert value["usage"]["completion_tokens"] == 3
    assert value["thinking"] == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("temperature = ", "not valid TOML"),
        ("temprature = 1.0", "did you mean 'temperature'?"),
        ("nonsense = 1", "zaya config show"),
        ("top-p = 0.9", "did you mean 'top_p'?"),
        ('temperature = "warm"', "temperature is 'warm'; a number is needed"),
        ("threads = 2.5", "threads is 2.5; a whole number is needed"),
        ("threads = true", "a whole number is needed"),
        ('thinking = "loud"', "one of show, hide, stderr, off"),
        ("model = 3", "a text in quotes is needed"),
        ("[run]\nseed = 1", "'run', which is no setting"),
        (b"\xff\xfe", "not valid TOML"),
        ("a = 1\n" * 200_000, "has more than 1,000,000 bytes"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it_and_is_left_alone(zaya, config, text, words):
    path = config(text)
    before = path.read_bytes()
    for arguments in (["run", "-p", "x", "-m", "demo"], ["config", "show"]):
        result = zaya(*arguments)
        assert (result.code, result.out) == (2, "")
        assert re.fullmatch(r"zaya: [^\n]+[.]\n", result.err), result.err
        assert str(path) in result.err
        assert words in result.err
    assert path.read_bytes() == before
    assert zaya("config", "path").out == f"{path}\n"
    assert zaya("models").code == 0
    assert zaya("--version").code == 0


def test_a_file_that_cannot_be_read_is_an_error(zaya, config, tmp_path):
    config("").unlink()
    (tmp_path / "config.toml").mkdir()
    result = zaya("run", "-p", "x", "-m", "demo")
    assert result.code == 2
    assert "cannot be read" in result.err


@pytest.mark.parametrize(("variable", "value"), [("ZAYA_THREADS", "many"), ("ZAYA_COLOR", "blue"), ("ZAYA_TOP_P", "x")])
def test_a_malformed_variable_is_named(zaya, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    for arguments in (["run", "-p", "x", "-m", "demo"], ["config", "show"]):
        result = zaya(*arguments)
        assert (result.code, result.out) == (2, "")
        assert variable in result.err or variable.removeprefix("ZAYA_").lower() in result.err


def test_show_names_the_origin_of_each_value(zaya, config, monkeypatch):
    path = config("threads = 2\n")
    monkeypatch.setenv("ZAYA_CTX", "4096")
    lines = {line.split()[0]: line.split()[1:] for line in zaya("config", "show").out.splitlines()}
    assert set(lines) == set(SETTINGS)
    assert lines["threads"] == ["2", str(path)]
    assert lines["ctx"] == ["4096", "ZAYA_CTX"]
    assert lines["device"] == ["auto", "built-in"]


def test_every_setting_reaches_every_command_that_has_its_flag():
    defaults = defaults_by_command({"device": "cpu", "ctx": 7}, SETTINGS)
    assert defaults["run"] == {"device": "cpu", "context": 7}
    assert defaults["chat"] == {"device": "cpu", "context": 7}
    assert defaults["pull"] == {"device": "cpu"}


def test_the_file_is_where_xdg_says(zaya, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert zaya("config", "path").out == f"{tmp_path}/zaya/config.toml\n"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert "relative" not in zaya("config", "path").out
