// The model's steps that each instruction set provides, and how to ask for them together with its products.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "quant/kernels/cpu/gemm/layout.h"
#include "quant/kernels/cpu/sets/product_set.h"

namespace zaya {

enum class KvFormat : int32_t { float32 = 0, bf16 = 1, int8 = 2 };

inline int64_t bytes_of(KvFormat format) { return format == KvFormat::float32 ? 4 : format == KvFormat::bf16 ? 2 : 1; }

// Positions `begin` to `end` - 1 of one head of a K/V block, laid out as paged_cache.h says; int8 codes have a scale
// for each.
struct KvBlock {
    KvFormat format;
    const void* keys;
    const void* values;
    const float* key_scales;
    const float* value_scales;
    int64_t begin, end, block_size;
};

// Online softmax over the positions so far for each of some queries: the maximum, the sum of the exponentials relative
// to it, and the sum of the values (queries, width) times those.
struct SoftmaxState {
    float* max;
    float* sum;
    float* out;
};

// The mask of 16 queries: positions begin to end - 1 of each, and the position of the first score.
struct AttentionMask {
    const int32_t* begin;
    const int32_t* end;
    int64_t first;
};

// Flash attention of a prompt. Gemms are of tiles: 16 rows, or columns, with the inner dimension k in pairs, as the
// cache holds keys and values of the same format: [k/2][16][2] bf16 or [k][16] float32.
struct FlashPrompt {
    KvFormat format;  // of the numbers that are multiplied, bf16 or float32
    // a tile of 16 rows of k (a multiple of 32) floats, `stride` apart
    void (*pack_tile)(const float* x, int64_t stride, int64_t k, void* tile);
    // a tile of k (a multiple of 4) numbers from one that the cache holds in another format
    void (*convert_tile)(KvFormat stored, const void* numbers, int64_t k, void* tile);
    // y (16, 32) = or += a tile of rows times two of columns, `next` bytes apart. Where k is odd the second numbers of
    // the last pairs are not read into anything.
    void (*tile_gemm)(const void* rows, const void* columns, int64_t next, int64_t k, float* y, int64_t stride,
                      bool adds);
    // Online softmax: scores (positions of the block, 16 queries), in powers of two and `stride` apart, to a tile of
    // exponentials relative to the maximum so far. Rescales the state, whose maximum begins at kNoScore. Overwrites
    // scores.
    void (*softmax)(float* scores, int64_t stride, const KvBlock& block, const AttentionMask& mask, int64_t width,
                    const SoftmaxState& state, void* tile);
};

constexpr float kNoScore = -3e38f;

constexpr int64_t kMaxPositions = 256;  // of a KvBlock, from the multiple of 16 at or before its begin

// Steps on rows of float32; all widths are multiples of 16 if nothing else is said. The same bits on every instruction
// set.
struct StepSet {
    const char* name;
    const FlashPrompt* prompt;  // or null
    // out = x / sqrt(mean(x^2) + eps) * weight
    void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* out);
    // residual = branch * factor * branch_scale + (residual * residual_scale + constant)
    void (*merge)(const float* branch, float factor, const float* branch_scale, const float* residual_scale,
                  const float* constant, int64_t n, float* residual);
    // x = gelu(x), exact
    void (*gelu)(float* x, int64_t n);
    // sum of squares of x (n)
    float (*square_sum)(const float* x, int64_t n);
    // out = e^((x - max) / temperature), any n; returns the sum
    double (*exponentials)(const float* x, int64_t n, float max, float temperature, float* out);
    // Flash decoding: `count` queries of the block's head (count, width), already divided by sqrt(width), over its
    // positions
    void (*attend)(const float* queries, int64_t count, int64_t width, const KvBlock& block, const SoftmaxState& state);
};

// Best first; null where this build has no code for them.
const StepSet* avx512bf16_steps();
const StepSet* avx512vnni_steps();
const StepSet* avxvnni_steps();
const StepSet* avx2_steps();
const StepSet* neon_dotprod_steps();
const StepSet* portable_steps();

// Those of this build, in the order of product_sets().
const std::vector<const StepSet*>& step_sets();

// All of one instruction set.
struct Kernels {
    const ProductSet& products;
    const StepSet& steps;
};

inline Kernels kernels_at(int index) { return {products_at(index), *step_sets()[static_cast<size_t>(index)]}; }

}  // namespace zaya
