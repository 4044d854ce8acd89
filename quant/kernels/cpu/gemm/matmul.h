// Grouped gemm of rows by packed or bf16 matrices, for code that already has rows in float32 or bf16.

#pragma once

#include <cstdint>
#include <vector>

#include "quant/kernels/cpu/gemm/layout.h"
#include "quant/kernels/cpu/parallel/aligned.h"
#include "quant/kernels/cpu/sets/product_set.h"

namespace zaya {

enum class Format : int32_t { bf16 = 0, int8 = 1, int4 = 2 };

// Rows of k values, row i of them being `order[i]` (i itself where it is null).
struct RowSource {
    const void* values;
    bool is_bf16;  // else float32
    const int64_t* order;

    int64_t row_at(int64_t row) const { return order ? order[row] : row; }
    const uint16_t* bf16() const { return static_cast<const uint16_t*>(values); }
    const float* floats() const { return static_cast<const float*>(values); }
};

// The rows of x in the form that gemms read: quantized to int8 for integer weights, rounded to bf16 for bf16 ones.
class Activations {
public:
    // Consecutive rows belong to consecutive groups: counts[i] of them to group i.
    Activations(const ProductSet& products, Format format, const RowSource& x, int64_t k, const int64_t* counts,
                int64_t groups, int threads);

    // SwiGLU in the form that gemms read: silu(gate) * up, gate being the product with the first n rows of a group's
    // weights (2n, k) and up that with the others. n: a multiple of 64, for bf16 of 32.
    Activations swiglu(const Weights* weights, int64_t n) const;

    // What a gemm multiplies by: one matrix for each group, all of one shape; y (rows, n), rows `stride` apart.
    struct Product {
        const Weights* weights;
        int64_t n;
        float* y;
        int64_t stride;
    };
    void multiply(const Product* products, int64_t count) const;
    // One product, its rows of y (rows, n) one after the other.
    void multiply(const Weights* weights, int64_t n, float* y) const {
        const Product product = {weights, n, y, n};
        multiply(&product, 1);
    }

private:
    // As many rows, in the same groups, of k values that are not there yet.
    Activations(const Activations& like, int64_t k);

    // Rows of one group, in blocks of `block` and a smaller last one.
    struct RowRange {
        int64_t group, first, count, block;
    };
    // Some rows of a product by some of its tiles.
    struct WorkItem {
        const Product* product;
        const RowRange* rows;
        TileRange tiles;
    };
    // Where the codes of a row begin in a group of columns, and what belongs to them.
    struct Slot {
        int8_t* codes;
        float* scale;
        GroupSum* sum;
    };
    template <class Body>
    void for_each_block(const RowRange& rows, const Body& body) const;
    void split(const int64_t* counts, int64_t groups);
    void allocate();
    void quantize(const RowSource& source);
    void quantize_row(const RowSource& source, int64_t first, int64_t count, int64_t row, int64_t group, int64_t end);
    Slot slot_of(int64_t first, int64_t count, int64_t row, int64_t group) const;
    void round_to_bf16(const RowSource& source);
    template <class X>
    void round_columns(const X* x, int64_t row, int64_t begin, int64_t count);
    void take_swiglu(const RowRange& rows, int64_t begin, int64_t count, float* gate, const float* up, int64_t stride);
    std::vector<WorkItem> work_items(const Product* products, int64_t count) const;
    void gemm(const RowRange& rows, const Weights& weights, const TileRange& tiles, const Output& out) const;
    void bf16_gemm(const RowRange& rows, const Weights& weights, const TileRange& tiles, const Output& out) const;
    void int_gemm(const RowRange& rows, const Weights& weights, const TileRange& tiles, const Output& out) const;
    QuantizedBlock block_at(int64_t row, bool is_alone) const;
    bool is_short() const { return rows_ < kTile * static_cast<int64_t>(ranges_.size()); }

    const ProductSet& products_;
    Format format_;
    int64_t k_, rows_ = 0;
    int threads_;
    std::vector<RowRange> ranges_;
    Aligned<int8_t> codes_;
    Aligned<float> scales_;
    Aligned<GroupSum> sums_;
    Aligned<uint16_t> rounded_;  // one of these two for bf16 weights
    Aligned<float> rounded_floats_;
};

}  // namespace zaya
