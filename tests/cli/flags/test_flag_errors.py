"""A value that a flag cannot take is refused under the flag's name, with what is needed, and as JSON if asked to."""

from __future__ import annotations

import json

import pytest

from zaya_cli.models.names import meant_by, repo_of

RUN = ("run", "-p", "1+1", "-m", "demo")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*RUN, "--temperature", "hot"), "--temperature hot: a number is needed, such as 0.7"),
        ((*RUN, "--threads", "2.5"), "--threads 2.5: a whole number is needed, such as 8"),
        ((*RUN, "--quant", "int5"), "--quant int5: it must be one of int4, int8, nf4 (did you mean int8?)"),
        ((*RUN, "--thinking", "no"), "--thinking no: it must be one of show, hide, stderr, off"),
        ((*RUN, "--logprobs", "21", "--format", "json"), "--logprobs 21: it must be from 0 to 20"),
        (("completion", "tcsh"), "SHELL tcsh: it must be one of bash, zsh, fish, powershell"),
        ((*RUN, "--rsa", "0"), "--rsa must be at least 1 (got 0)"),
        ((*RUN, "--rsa", "9999999"), "--rsa must be at most 1,048,576 (got 9,999,999)"),
        ((*RUN, "--rsa", "2", "--rsa-rounds", "-1"), "--rsa-rounds must be at least 0 (got -1)"),
        ((*RUN, "--rsa", "2", "--rsa-stop-at", "75"), "--rsa-stop-at must be above 0 and at most 1 (got 75)"),
        ((*RUN, "--rsa", "2", "--temperature", "0"), "all think the same"),
        ((*RUN, "--ctx", "100000"), "--ctx 100000 is too large: this model supports 2 to 4,096 tokens"),
        ((*RUN, "--endpoint-model", "x"), "--endpoint-model is for Markovian RSA: add --rsa N"),
        ((*RUN, "--rsa-save", "x"), "--rsa-save is for Markovian RSA: add --rsa N"),
        ((*RUN, "--rsa-parallel", "4"), "--rsa-parallel is for Markovian RSA: add --rsa N"),
        (("pull", "demo"), "demo is part of the program"),
    ],
)
def test_a_value_that_a_flag_cannot_take_is_refused_under_its_name(zaya, arguments, words):
    result = zaya(*arguments)
    assert result.code == 2
    assert words in result.err
    for word in ("Unexpected", "Value error", "Input should", "RSA's"):
        assert word not in result.err


def test_a_variable_is_blamed_under_its_own_name(zaya, monkeypatch):
    monkeypatch.setenv("ZAYA_TEMPERATURE", "hot")
    assert "ZAYA_TEMPERATURE hot: a number is needed" in zaya(*RUN).err


@pytest.mark.parametrize("form", [("--format", "json"), ("--format=jsonl",)])
@pytest.mark.parametrize("wrong", [("--temperature", "hot"), ("--nosuch",), ("--max-tokens",)])
def test_wrong_usage_is_an_error_object_where_json_is_asked_for(zaya, form, wrong):
    result = zaya(*RUN, *form, *wrong)
    assert result.code == 2
    error = json.loads(result.out)["error"]
    assert error["exit_code"] == 2
    assert f"zaya: {error['message']}\n" == result.err


def test_a_missing_prompt_file_is_a_missing_file_and_no_missing_model(zaya):
    result = zaya("run", "missing.txt", "-m", "demo", "--format", "json")
    assert json.loads(result.out)["error"]["type"] == "MissingFileError"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dmeo", "did you mean demo?"),
        ("Demo", "did you mean demo?"),
        ("ZAYA1-8B", "did you mean Zyphra/ZAYA1-8B?"),
        ("zyphra/zaya1-8b", "did you mean Zyphra/ZAYA1-8B?"),
        ("Zyphra/ZAYA1-base", "`zaya pull Zyphra/ZAYA1-base`"),
        ("x.gguf", "no .gguf files"),
        ("Qwen/Qwen3-8B", "by its name no ZAYA model"),
        ("https://huggingface.co/Zyphra/ZAYA1-8B/tree/abc", "`zaya pull Zyphra/ZAYA1-8B --revision abc`"),
    ],
)
def test_a_model_that_is_not_there_is_asked_about(zaya, monkeypatch, tmp_path, name, words):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    result = zaya("run", "-p", "1+1", "-m", name)
    assert (result.code, result.out) == (3, "")
    assert words in result.err


@pytest.mark.parametrize(
    "address",
    [
        "https://huggingface.co/Zyphra/ZAYA1-8B",
        "http://www.huggingface.co/Zyphra/ZAYA1-8B/",
        "huggingface.co/Zyphra/ZAYA1-8B?library=transformers",
        "https://hf.co/Zyphra/ZAYA1-8B#files",
        "hf://Zyphra/ZAYA1-8B",
        "Zyphra/ZAYA1-8B",
    ],
)
def test_a_page_of_the_hub_is_its_repository(address):
    assert repo_of(address) == "Zyphra/ZAYA1-8B"
    assert repo_of("https://huggingface.co/Zyphra/ZAYA1-8B/blob/v2/config.json") == "Zyphra/ZAYA1-8B@v2"


def test_a_name_that_is_like_no_other_is_left_alone():
    assert meant_by("llama", ["demo", "Zyphra/ZAYA1-8B"]) is None
    assert meant_by("demo", ["demo"]) is None


def test_rsa_in_a_chat_at_temperature_0_is_refused(zaya):
    result = zaya("chat", "-m", "demo", "-t", "0", piped="/rsa 4\n/set temperature 1\n/rsa 4\n")
    assert "/rsa needs a temperature above 0" in result.err
    assert "4 candidates for the next answer" in result.err
