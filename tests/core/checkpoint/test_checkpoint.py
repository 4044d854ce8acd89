"""A model folder is accounted for tensor by tensor; a damaged or hostile one ends in a sentence naming the fault."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.core.broken_folders import (
    CONFIG,
    FIRST,
    FOLDERS,
    INDEX,
    NORM,
    SECOND,
    change_header,
    contents,
    good_folder,
    write_json,
)
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.checkpoint.names import parameters
from zaya_core.config.parse import parse_config, read_config
from zaya_core.errors import CheckpointError, ConfigError, ModelNotFoundError, ZayaError
from zaya_core.files.model_file import read_model_file
from zaya_core.load import load_model
from zaya_core.text.tokenizer import load_tokenizer


@pytest.fixture
def folder(tmp_path):
    return good_folder(tmp_path / "model")


@pytest.fixture(scope="module")
def kept_folder(tmp_path_factory):
    """For properties: each example writes the first shard anew."""
    return good_folder(tmp_path_factory.mktemp("kept") / "model")


def open_folder(folder):
    model = load_model(folder, device="cpu")
    load_tokenizer(folder)
    return model


def first_logits(folder):
    return open_folder(folder)(torch.tensor([[2, 300, 301]]))


def test_the_good_folder_loads(folder):
    assert first_logits(folder).shape == (1, 3, CONFIG["vocab_size"])


@pytest.mark.parametrize("name", FOLDERS)
def test_a_broken_folder_ends_in_one_sentence(name, folder):
    broken = FOLDERS[name]
    broken.damage(folder)
    before = contents(folder)
    with pytest.raises(ZayaError, match=broken.says) as caught:
        open_folder(folder)
    message = str(caught.value)
    assert type(caught.value) is broken.error
    assert message.isprintable()
    assert len(message) < 5000
    assert contents(folder) == before


def test_a_folder_of_links_loads_as_the_hub_cache_makes_it(folder, tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "67d34da5"
    folder.rename(blobs)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(blobs.iterdir())):
        path.rename(blobs / f"{number:064x}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{number:064x}")
    assert torch.equal(first_logits(snapshot), first_logits(good_folder(tmp_path / "again")))


def test_one_file_without_an_index_is_the_same_model(folder, tmp_path):
    expected = first_logits(folder)
    save_file({**load_file(folder / FIRST), **load_file(folder / SECOND)}, folder / "model.safetensors")
    for name in (INDEX, FIRST, SECOND):
        (folder / name).unlink()
    assert torch.equal(first_logits(folder), expected)


@pytest.mark.parametrize("path", ["nowhere", "nowhere/deeper", "x" * 5000, "null\0byte"])
def test_a_folder_that_does_not_exist(path, tmp_path):
    with pytest.raises(ModelNotFoundError, match="There is no folder"):
        load_model(tmp_path / path)


def test_a_file_instead_of_a_folder(folder):
    with pytest.raises(ModelNotFoundError, match="is a file: give the folder"):
        load_model(folder / FIRST)


@pytest.mark.parametrize("name", ["config.json", INDEX, FIRST])
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_an_unreadable_file_says_so(name, folder):
    (folder / name).chmod(0)
    if os.access(folder / name, os.R_OK):
        pytest.skip("the superuser can read everything")
    with pytest.raises(CheckpointError, match=f"{name} cannot be read .*Permission denied.*check its permissions"):
        open_folder(folder)


@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_an_input_error_while_reading_says_so(name, folder, monkeypatch):
    open_path = Path.open

    def fail(path, *arguments, **options):
        if path.name == name:
            raise OSError(5, "Input/output error")
        return open_path(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Input/output error\)"):
        open_checkpoint(folder)


def test_a_folder_that_may_not_be_entered_is_not_said_to_lack_files(folder, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zaya_core.config.parse.os.stat", refuse)
    with pytest.raises(ConfigError, match=r"cannot be opened \(Permission denied\): check its permissions"):
        read_config(folder)


def test_a_folder_of_gguf_files_alone_is_named(tmp_path):
    (tmp_path / "zaya-Q4_K_M.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFoundError, match=r"no config.json \(zaya-Q4_K_M.gguf is of llama.cpp"):
        load_model(tmp_path)


def add_head(folder, change=lambda head: head):
    """The embedding once more, as programs for training save it."""
    tensors = load_file(folder / FIRST)
    tensors["lm_head.weight"] = change(tensors["model.embed_tokens.weight"].clone())
    save_file(tensors, folder / FIRST)
    index = json.loads((folder / INDEX).read_text())["weight_map"]
    write_json(folder / INDEX, {"weight_map": {**index, "lm_head.weight": FIRST}})


@pytest.mark.parametrize("change", [lambda head: head, lambda head: head.float()], ids=["same dtype", "float32"])
def test_a_head_that_is_the_embedding_once_more_is_taken_and_said(change, folder):
    expected = first_logits(folder)
    add_head(folder, change)
    model = open_folder(folder)
    assert model.notes == (
        "lm_head.weight is stored although it is equal to model.embed_tokens.weight, which is used for both.",
    )
    assert torch.equal(model(torch.tensor([[2, 300, 301]])), expected)


def test_a_head_that_differs_in_its_last_row_is_refused(folder):
    add_head(folder, lambda head: torch.cat([head[:-1], -head[-1:]]))
    with pytest.raises(CheckpointError, match=r"differs from model\.embed_tokens\.weight"):
        open_folder(folder)


def test_nothing_is_read_beyond_the_limit(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b" " * 100 + b"1")
    assert read_model_file(path, 101) == path.read_bytes()
    with pytest.raises(CheckpointError, match=r"has 101 bytes, and more than 100"):
        read_model_file(path, 100)


def test_a_byte_order_mark_is_no_damage(folder):
    for name in ("config.json", "tokenizer_config.json", INDEX):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert first_logits(folder).shape == (1, 3, CONFIG["vocab_size"])


# ------------------------------------------------------------------------------------------ accounting, both ways


def test_all_faults_are_listed_by_name_at_once(folder):
    tensors = load_file(folder / FIRST)
    names = sorted(tensors)
    missing, misshapen, strange = names[:3]
    index = json.loads((folder / INDEX).read_text())["weight_map"]
    del tensors[missing]
    tensors[misshapen] = torch.zeros(5, dtype=torch.bfloat16)
    tensors[strange] = tensors[strange].half()
    tensors["model.first_extra"] = tensors["model.second_extra"] = torch.zeros(1)
    tensors["model.second_extra"] = torch.zeros(1)
    save_file(tensors, folder / FIRST)
    del index[missing]
    write_json(folder / INDEX, {"weight_map": {**index, "model.first_extra": FIRST}})
    with pytest.raises(CheckpointError) as caught:
        open_folder(folder)
    for part in (
        f"1 missing: {missing}",
        "2 extra: model.first_extra, model.second_extra",
        f"1 misshapen: {misshapen} is [5] instead of",
        f"{strange} is F16",
        "1 not in the index: model.second_extra",
        "native layout",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("parameter", [one.name for one in parameters(parse_config(CONFIG))])
def test_no_tensor_can_be_left_out_or_misshapen(parameter, kept_folder, tmp_path):
    tensors = {**load_file(kept_folder / FIRST), **load_file(kept_folder / SECOND)}
    write_json(tmp_path / "config.json", CONFIG)
    for change, word in (({}, "missing"), ({parameter: torch.zeros(1, 1, 1, 1)}, "misshapen")):
        rest = {name: tensor for name, tensor in tensors.items() if name != parameter}
        save_file({**rest, **change}, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=f"1 {word}: {parameter}"):
            open_checkpoint(tmp_path)


def test_a_long_list_of_names_is_cut_and_counted(folder):
    tensors = {**load_file(folder / FIRST), **{f"extra.{i:03}": torch.zeros(1) for i in range(70)}}
    save_file(tensors, folder / FIRST)
    index = json.loads((folder / INDEX).read_text())["weight_map"]
    write_json(folder / INDEX, {"weight_map": {**index, **dict.fromkeys(tensors, FIRST)}})
    with pytest.raises(CheckpointError, match=r"70 extra: extra\.000, .*extra\.049, and 20 more"):
        open_folder(folder)


def test_weights_of_the_native_layout_under_an_original_config(folder):
    original = {
        "model_type": "zaya",
        "num_hidden_layers": 4,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "ffn_hidden_size": 16,
        "rope_theta": 1e4,
    }
    write_json(folder / "config.json", original)
    with pytest.raises(CheckpointError, match=r"of the native layout, but its config\.json describes the original"):
        open_folder(folder)


def test_a_mixture_of_bf16_and_float32_tensors_is_read(folder):
    save_file({name: tensor.float() for name, tensor in load_file(folder / FIRST).items()}, folder / FIRST)
    assert first_logits(folder).isfinite().all()


# ----------------------------------------------------------------------------------------------------- properties

quick = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def loads_or_says_why(folder, content):
    """The changed first shard beside the untouched rest. True when the folder was taken."""
    pristine = folder.parent / "pristine"
    if not pristine.exists():
        shutil.copy(folder / FIRST, pristine)
    (folder / FIRST).unlink()  # the old file may still be mapped
    (folder / FIRST).write_bytes(content(pristine.read_bytes()))
    try:
        checkpoint = open_checkpoint(folder)
        for parameter in checkpoint.parameters:
            checkpoint.tensor(parameter).float().sum()
    except ZayaError as error:
        message = str(error)
    else:
        return True
    assert message.isprintable()
    return False


@quick
@given(share=st.floats(0, 1))
def test_truncated_at_any_byte(kept_folder, share):
    assert not loads_or_says_why(kept_folder, lambda whole: whole[: int(share * (len(whole) - 1))])


@quick
@given(data=st.data())
def test_any_byte_of_the_header_changed(kept_folder, data):
    def change(whole):
        (length,) = struct.unpack("<Q", whole[:8])
        at = data.draw(st.integers(0, 8 + length - 1))
        return whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]

    loads_or_says_why(kept_folder, change)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@quick
@given(header=json_like, data=st.binary(max_size=40))
def test_any_json_as_header(kept_folder, header, data):
    text = json.dumps(header).encode()
    assert not loads_or_says_why(kept_folder, lambda _: struct.pack("<Q", len(text)) + text + data)


@quick
@given(offsets=st.lists(st.integers(-5, 300), min_size=2, max_size=2), shape=st.lists(st.integers(-1, 40), max_size=3))
def test_any_offsets_and_shape_of_a_tensor(kept_folder, offsets, shape):
    def change(whole):
        (kept_folder / FIRST).write_bytes(whole)
        change_header(lambda h: h[NORM].update(data_offsets=offsets, shape=shape))(kept_folder)
        return (kept_folder / FIRST).read_bytes()

    loads_or_says_why(kept_folder, change)


@quick
@given(
    weight_map=st.recursive(
        st.none() | st.integers() | st.text() | st.sampled_from([FIRST, SECOND, "..", "/"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    )
)
def test_any_json_as_index(tmp_path_factory, kept_folder, weight_map):
    folder = tmp_path_factory.mktemp("index")
    for name in ("config.json", FIRST, SECOND):
        (folder / name).symlink_to(kept_folder / name)
    write_json(folder / INDEX, {"weight_map": weight_map})
    with pytest.raises(ZayaError) as caught:
        open_checkpoint(folder)
    assert str(caught.value).isprintable()
