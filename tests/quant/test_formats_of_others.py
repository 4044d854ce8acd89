"""The same numbers as bitsandbytes' and compressed-tensors', bit for bit."""

from __future__ import annotations

import pytest
import torch

from quant.assemble import packed_matrix
from quant.formats import MissingLibraryError
from quant.int8 import round_int8
from quant.nf4 import bitsandbytes, quantize_nf4


def heavy(n, k, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, k, generator=generator) ** 3).bfloat16()


def test_int8_codes_are_those_of_bitsandbytes():
    library = pytest.importorskip("bitsandbytes")
    weight = heavy(100, 512)
    codes, absmax, _ = library.functional.int8_vectorwise_quant(weight)
    ours, scales = round_int8(weight)
    assert torch.equal(ours, codes)
    torch.testing.assert_close(scales, absmax / 127, rtol=1e-7, atol=0)


def test_nf4_is_that_of_bitsandbytes():
    library = pytest.importorskip("bitsandbytes")
    weight = heavy(48, 256)
    packed, state = library.functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    tensors = quantize_nf4(weight)
    assert torch.equal(tensors["codes"].flatten(), packed.flatten())
    assert torch.equal(tensors["scales"].flatten(), state.absmax)
    state.dtype = torch.float32
    matrix = packed_matrix("nf4", tensors, (48, 256))
    assert torch.equal(matrix.dequantize(), library.functional.dequantize_4bit(packed, state))
    index = torch.tensor([[47, 0], [16, 16]])
    assert torch.equal(matrix.rows(index), matrix.dequantize()[index])


def test_without_bitsandbytes_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(MissingLibraryError, match="pip install bitsandbytes"):
        bitsandbytes()


@pytest.mark.parametrize("scale_dtype", [torch.bfloat16, torch.float32])
def test_fp8_is_read_as_compressed_tensors_reads_it(scale_dtype):
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import FloatQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    arguments = QuantizationArgs(num_bits=8, type="float", strategy="channel", symmetric=True, dynamic=False)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    weight = heavy(20, 128).float()
    scale = (weight.abs().amax(1, keepdim=True) / 448).to(scale_dtype)
    stored = FloatQuantizationCompressor.compress({"weight": weight, "weight_scale": scale.float()}, scheme)
    expected = FloatQuantizationCompressor.decompress(dict(stored), scheme)["weight"]
    matrix = packed_matrix("fp8", {"codes": stored["weight"], "scales": scale}, (20, 128))
    torch.testing.assert_close(matrix.dequantize(), expected.float(), rtol=1e-6, atol=0)
    assert torch.equal(matrix.rows(torch.tensor([19, 3])), matrix.dequantize()[[19, 3]])


def test_mxfp4_is_read_as_compressed_tensors_reads_it():
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import MXFP4PackedCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    arguments = QuantizationArgs(num_bits=4, type="float", strategy="group", group_size=32, symmetric=True)
    arguments.scale_dtype = torch.uint8
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    weight = heavy(20, 128).float()
    exponents = weight.view(20, 4, 32).abs().amax(-1).div(6).log2().ceil()
    stored = MXFP4PackedCompressor.compress({"weight": weight, "weight_scale": exponents.exp2()}, scheme)
    expected = MXFP4PackedCompressor.decompress(dict(stored), scheme)["weight"]
    matrix = packed_matrix("mxfp4", {"codes": stored["weight_packed"], "scales": stored["weight_scale"]}, (20, 128))
    assert torch.equal(matrix.dequantize(), expected.float())
    assert torch.equal(matrix.rows(torch.tensor([19, 3])), matrix.dequantize()[[19, 3]])
