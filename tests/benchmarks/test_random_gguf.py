"""The file that llama.cpp is measured with: the shapes asked for, weights of a trained model's size and mean."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.random_gguf import Sizes, write_random_gguf

gguf = pytest.importorskip("gguf")
SMALL = Sizes(layers=2, hidden=64, experts=4, expert_width=96, query_heads=4, key_heads=2, head_dim=32, vocabulary=1000)


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "random.gguf"
    write_random_gguf(path, SMALL)
    return {one.name: one for one in gguf.GGUFReader(path).tensors}


def test_the_head_is_the_embedding_and_experts_are_stacks(tensors):
    assert "output.weight" not in tensors
    assert tensors["token_embd.weight"].shape.tolist() == [64, 1000]  # widest dimension last, as GGUF counts
    assert tensors["blk.1.ffn_gate_exps.weight"].shape.tolist() == [64, 96, 4]
    assert tensors["blk.1.ffn_down_exps.weight"].shape.tolist() == [96, 64, 4]
    assert tensors["blk.0.attn_k.weight"].shape.tolist() == [64, 64]
    kinds = {name: one.tensor_type.name for name, one in tensors.items()}
    assert {name for name, kind in kinds.items() if kind == "F32"} == {
        name for name in kinds if "norm" in name or "ffn_gate_inp" in name
    }
    assert set(kinds.values()) == {"F32", "Q4_0"}


def test_packed_weights_have_a_mean_of_zero_and_the_spread_of_a_trained_matrix(tensors):
    packed = tensors["token_embd.weight"]
    weights = gguf.dequantize(packed.data, packed.tensor_type)
    assert weights.shape == (1000, 64)
    assert weights.std() == pytest.approx(64**-0.5, rel=0.02)
    assert abs(weights.mean()) < 0.02 * weights.std()
    assert len(np.unique(weights)) == 15


def test_layers_differ(tensors):
    first, second = (tensors[f"blk.{layer}.ffn_up_exps.weight"].data for layer in (0, 1))
    assert (first != second).any()


def test_a_file_that_could_not_be_written_is_not_there(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("benchmarks.random_gguf._values", fail)
    with pytest.raises(OSError, match="disk full"):
        write_random_gguf(tmp_path / "random.gguf", SMALL)
    assert not list(tmp_path.iterdir())
