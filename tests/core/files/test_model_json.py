"""The files of a model folder: each has one limit, and what stands in its place is named whatever its size."""

from __future__ import annotations

import pytest

from zaya_core.errors import CheckpointError, ConfigError, ModelNotFoundError
from zaya_core.files.model_file import expect_model_file, read_model_file
from zaya_core.files.model_json import CONFIG, INDEX, TOKENIZER_CONFIG, read_json, read_json_object


def test_a_file_is_as_large_as_its_kind_may_be(tmp_path):
    content = b" " * 4_000_000 + b"1"
    for name in (CONFIG, TOKENIZER_CONFIG, INDEX):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match="has 4,000,001 bytes, and more than 4,000,000 is no such file"):
        read_json(tmp_path / CONFIG, ConfigError)
    assert read_json(tmp_path / TOKENIZER_CONFIG) == read_json(tmp_path / INDEX) == 1


@pytest.mark.parametrize(
    ("beginning", "failure", "words"),
    [
        (b"\n<!DOCTYPE html>", CheckpointError, "web page"),
        (b"version https://git-lfs", ModelNotFoundError, "git lfs pull"),
        (b"/annex/objects/", ModelNotFoundError, "git annex get"),
    ],
)
def test_what_stands_in_a_file_s_place_is_named_before_its_size(tmp_path, beginning, failure, words):
    path = tmp_path / "file"
    path.write_bytes(beginning + b" " * 100)
    for at_most in (64, 1000):
        with pytest.raises(failure, match=words):
            read_model_file(path, at_most)
    with pytest.raises(failure, match=words):
        expect_model_file(path)


def test_an_object_that_is_missing_is_empty_and_another_value_is_refused(tmp_path):
    assert read_json_object(tmp_path / "none.json") == {}
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds list, not an object"):
        read_json_object(tmp_path / "list.json")
