// What each instruction set's file provides, and how to ask for it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "layout.h"

namespace zaya {

// Few rows wait for memory, which some processors read faster at several places in turns than at one.
constexpr int64_t kStreamedRows = 2;

// A block of `rows` rows of x by one tile or, of up to kStreamedRows rows, by `integer_streams` of them: no other count.
using IntegerTiles = void (*)(const QuantizedBlock& x, int64_t rows, const Weights& weights, const Tiles& tiles, const OutputTile& out);

// Rows of k values (a multiple of 32) one after the other, bf16 numbers in bf16 or, where bf16_takes_float, in float32
// with the even ones of each 32 columns before the odd ones.
struct RowsOfX {
    const void* values;
    int64_t rows, k;
};

// The product by a tile of bf16 weights: its first 16 or out.valid rows, k apart. A row's bits do not depend on the others.
using Bf16Tile = void (*)(const RowsOfX& x, const uint16_t* w, const OutputTile& out);

enum class KeyValueFormat : int32_t { float32 = 0, bf16 = 1, int8 = 2 };

inline int64_t bytes_of(KeyValueFormat format) { return format == KeyValueFormat::float32 ? 4 : format == KeyValueFormat::bf16 ? 2 : 1; }

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

// Positions that each of 16 queries sees, begin to end - 1, and the position of the first score.
struct PositionsSeen {
    const int32_t* begin;
    const int32_t* end;
    int64_t first;
};

// A prompt's attention. Products are of tiles: 16 rows, or columns, with the inner dimension k in pairs, as the cache holds
// keys and values of the same format: [k/2][16][2] bf16 or [k][16] float32.
struct PromptSteps {
    KeyValueFormat format;  // of the numbers that are multiplied, bf16 or float32
    // a tile of 16 rows of k (a multiple of 32) floats, `stride` apart
    void (*make_tile)(const float* x, int64_t stride, int64_t k, void* tile);
    // a tile of k (a multiple of 4) numbers from one that the cache holds in another format
    void (*widen)(KeyValueFormat stored, const void* numbers, int64_t k, void* tile);
    // y (16, 32) = or += a tile of rows times two of columns, `next` bytes apart. Where k is odd the second numbers of the
    // last pairs are not read into anything.
    void (*multiply)(const void* rows, const void* columns, int64_t next, int64_t k, float* y, int64_t stride, bool adds);
    // Scores (positions of the run, 16 queries), in powers of two and `stride` apart, to weights relative to the largest so
    // far: a tile of queries. Brings the state, whose largest begin at kNoScore, to that scale. Scores are overwritten.
    void (*weigh)(float* scores, int64_t stride, const KeyValueRun& run, const PositionsSeen& seen, int64_t width,
                  const AttentionState& state, void* tile);
};

constexpr float kNoScore = -3e38f;

constexpr int64_t kMostPositions = 256;  // of a KeyValueRun, from the multiple of 16 at or before its begin

// Steps on rows of float32; all widths are multiples of 16 if nothing else is said. The same bits on every instruction set.
struct FloatSteps {
    // out = x / sqrt(mean(x^2) + eps) * weight
    void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* out);
    // y (rows, 16 of them) = x (rows, k) times a panel [k][16] of float32 or bf16
    void (*multiply_panel)(const float* x, int64_t rows, int64_t k, const void* panel, bool is_bf16, float* y, int64_t stride);
    // x (groups of 64) to codes of at most 127: each four of them lie together, `rows` * 4 bytes behind the four before;
    // scales of the groups and sums of their codes, `rows` apart; instead of sums V::start_int4 of the codes where V has no
    // dot products (integer_tiles.h), which no other instruction set reads
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
};

struct InstructionSet {
    const char* name;
    bool (*is_supported)();
    int64_t integer_rows;     // most rows in a block of an integer product
    int64_t integer_streams;  // tiles that few rows are multiplied by in turns
    IntegerTiles int4;
    IntegerTiles int8;
    Bf16Tile bf16;          // or null: none that is worth having
    bool bf16_takes_float;  // x of the bf16 product is float32
    const PromptSteps* prompt;  // or null
    FloatSteps steps;
};

// Best first; null where this build has no code for them.
const InstructionSet* avx512bf16();
const InstructionSet* avx512vnni();
const InstructionSet* avxvnni();
const InstructionSet* avx2();
const InstructionSet* neon_dotprod();
const InstructionSet* portable();

// Those of this build, best first.
const std::vector<const InstructionSet*>& instruction_sets();

inline const InstructionSet& instruction_set_at(int index) { return *instruction_sets()[static_cast<size_t>(index)]; }

}  // namespace zaya
