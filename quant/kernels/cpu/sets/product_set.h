// The products that each instruction set provides, and how to ask for them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "quant/kernels/cpu/gemm/layout.h"

namespace zaya {

// y = a block of `rows` rows of x, at most ProductSet::int_rows, times a range of tiles.
using IntGemm = void (*)(const QuantizedBlock& x, int64_t rows, const Weights& weights, const TileRange& tiles,
                         const Output& out);

// Rows of k values (a multiple of 32) one after the other, bf16 numbers in bf16 or, where bf16_takes_float, in float32
// with the even ones of each 32 columns before the odd ones.
struct Bf16Rows {
    const void* values;
    int64_t rows, k;
};

// The gemm with a tile of bf16 weights: its first 16 or out.valid rows, k apart. A row's bits do not depend on the
// others.
using Bf16Gemm = void (*)(const Bf16Rows& x, const uint16_t* w, const Output& out);

struct ProductSet {
    const char* name;
    bool (*is_supported)();
    int64_t int_rows;  // most rows in a block of an integer gemm
    IntGemm int4_gemm;
    IntGemm int8_gemm;
    Bf16Gemm bf16_gemm;     // or null: none that is worth having
    bool bf16_takes_float;  // x of the bf16 gemm is float32

    // The rest has the same bits on every instruction set.

    // y (rows, 16 of them) = x (rows, k) times a panel [k][16] of float32 or bf16; k a multiple of 16
    void (*panel_gemm)(const float* x, int64_t rows, int64_t k, const void* panel, bool is_bf16, float* y,
                       int64_t stride);
    // x (groups of 64) to codes of at most 127: each four of them lie together, `rows` * 4 bytes behind the four
    // before; scales of the groups and sums of their codes, `rows` apart
    void (*quantize)(const float* x, int64_t groups, int64_t rows, int8_t* codes, float* scales, GroupSum* sums);
    // out = silu(gate) * up; n a multiple of 16
    void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);
};

// Best first; null where this build has no code for them.
const ProductSet* avx512bf16_products();
const ProductSet* avx512vnni_products();
const ProductSet* avxvnni_products();
const ProductSet* avx2_products();
const ProductSet* neon_dotprod_products();
const ProductSet* portable_products();

// Those of this build, best first.
const std::vector<const ProductSet*>& product_sets();

inline const ProductSet& products_at(int index) { return *product_sets()[static_cast<size_t>(index)]; }

}  // namespace zaya
