// What each instruction set's file provides, and how to ask for it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "layout.h"

namespace zaya {

// A block of `rows` rows of x by one tile, where `codes` and `scales` point.
using IntegerTile = void (*)(const QuantizedBlock& x, int64_t rows, const void* codes, const void* scales, const OutputTile& out);

// Rows of k values (a multiple of 32) one after the other, bf16 numbers in bf16 or, where bf16_takes_float, in float32
// with the even ones of each 32 columns before the odd ones.
struct RowsOfX {
    const void* values;
    int64_t rows, k;
};

// The product by a tile of bf16 weights: its first 16 or out.valid rows, k apart. A row's bits do not depend on the others.
using Bf16Tile = void (*)(const RowsOfX& x, const uint16_t* w, const OutputTile& out);

// Products of 16 rows by two tiles of 16 columns that are bf16, with pairs of the inner dimension k side by side: [k/2][16][2].
struct PairProducts {
    int64_t x_bytes;  // of a value of x: 2 (bf16) or 4 (float32)
    // 16 rows of k (a multiple of 32) floats, `stride` apart
    void (*pair_inputs)(const float* x, int64_t stride, int64_t k, void* pairs);
    // y (16, 32) = or += x times the columns, the second tile of them `next` numbers behind the first
    void (*multiply)(const void* x, const uint16_t* columns, int64_t next, int64_t k, float* y, int64_t stride, bool adds);
    // columns of int8 codes, [k/4][16][4], in pairs of bf16 numbers; k a multiple of 4
    void (*widen)(const int8_t* codes, int64_t k, uint16_t* pairs);
};

enum class KeyValueFormat : int32_t { float32 = 0, bf16 = 1, int8 = 2 };

// Positions `begin` to `end` - 1 of one head of a block, which lie as key_values.h says; int8 codes have a scale for each.
struct KeyValueRun {
    KeyValueFormat format;
    const void* keys;
    const void* values;
    const float* key_scales;
    const float* value_scales;
    int64_t begin, end, block_size;
};

// Softmax over the positions so far for each of some queries: the largest score, the sum of the exponentials relative to it,
// and the values' sum (queries, width) weighted by those.
struct AttentionState {
    float* largest;
    float* sum;
    float* out;
};

constexpr int64_t kMostPositions = 256;  // of a KeyValueRun, from the multiple of 16 at or before its begin

// Steps on rows of float32; all widths are multiples of 16 if nothing else is said. The same bits on every instruction set.
struct FloatSteps {
    // out = x / sqrt(mean(x^2) + eps) * weight
    void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* out);
    // y (rows, 16 of them) = x (rows, k) times a panel [k][16] of float32 or bf16
    void (*multiply_panel)(const float* x, int64_t rows, int64_t k, const void* panel, bool is_bf16, float* y, int64_t stride);
    // x (groups of 64) to codes of at most 127: each four of them lie together, `rows` * 4 bytes behind the four before;
    // scales of the groups and sums of their codes, `rows` apart
    void (*quantize)(const float* x, int64_t groups, int64_t rows, int8_t* codes, float* scales, int32_t* sums);
    // residual = branch * factor * branch_scale + (residual * residual_scale + constant)
    void (*merge)(const float* branch, float factor, const float* branch_scale, const float* residual_scale, const float* constant,
                  int64_t n, float* residual);
    // out = silu(gate) * up
    void (*gate)(const float* gate, const float* up, int64_t n, float* out);
    // x = gelu(x), exact
    void (*gelu)(float* x, int64_t n);
    // sum of squares of x (n)
    float (*square_sum)(const float* x, int64_t n);
    // out = e^((x - most) / temperature), any n; returns the sum
    double (*exponentials)(const float* x, int64_t n, float most, float temperature, float* out);
    // `count` queries of the run's head (count, width), already divided by sqrt(width); adds the run's positions to the state
    void (*attend)(const float* queries, int64_t count, int64_t width, const KeyValueRun& run, const AttentionState& state);
    // scores (up to kMostPositions of one query, room for a multiple of 16) to weights relative to the largest so far, zero
    // behind them; brings the state, out (width), to that scale
    void (*weigh)(float* scores, int64_t count, int64_t width, float* largest, float* sum, float* out);
};

struct InstructionSet {
    const char* name;
    bool (*is_supported)();
    int64_t integer_rows;  // most rows in a block of an integer product
    IntegerTile int4;
    IntegerTile int8;
    Bf16Tile bf16;          // or null: none that is worth having
    bool bf16_takes_float;  // x of the bf16 product is float32
    const PairProducts* pairs;  // or null
    FloatSteps steps;
};

// Best first; null where this build has no code for them.
const InstructionSet* avx512bf16();
const InstructionSet* avx512vnni();
const InstructionSet* avx2();
const InstructionSet* neon_dotprod();
const InstructionSet* portable();

// Those of this build, best first.
const std::vector<const InstructionSet*>& instruction_sets();

inline const InstructionSet& instruction_set_at(int index) { return *instruction_sets()[static_cast<size_t>(index)]; }

}  // namespace zaya
