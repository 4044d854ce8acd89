// Products of rows by packed or bf16 matrices, for code that already has rows in float32 or bf16.

#pragma once

#include <cstdint>
#include <vector>

#include "aligned.h"
#include "instruction_set.h"
#include "layout.h"

namespace zaya {

enum class Format : int32_t { bf16 = 0, int8 = 1, int4 = 2 };

// Rows of k values, `order[i]` (i itself where it is null) being the place of row i.
struct RowSource {
    const void* values;
    bool is_bf16;  // else float32
    const int64_t* order;

    int64_t place(int64_t row) const { return order ? order[row] : row; }
    const uint16_t* bf16() const { return static_cast<const uint16_t*>(values); }
    const float* floats() const { return static_cast<const float*>(values); }
};

// The rows in the form that products read: rounded to int8 for integer weights, to bf16 for bf16 ones.
class PreparedRows {
public:
    // Consecutive rows belong to consecutive groups: counts[i] of them to group i.
    PreparedRows(const InstructionSet& set, Format format, const RowSource& x, int64_t k, const int64_t* counts, int64_t groups,
                 int threads);

    // silu(gate) * up in the form that products read, gate being the product with the first n rows of a group's weights (2n, k)
    // and up that with the others. n: a multiple of 64, for bf16 of 32.
    PreparedRows gated(const Weights* weights, int64_t n) const;

    // What a product multiplies by: one matrix for each group, all of one shape; y (rows, n), rows `stride` apart.
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
    PreparedRows(const PreparedRows& like, int64_t k);

    // Rows of one group, worked on in blocks of `block` and a smaller last one.
    struct Piece {
        int64_t group, first, count, block;
    };
    // Tiles `begin` to `end` - 1 of a product with one piece and those of the other streams, each `apart` tiles behind the one before.
    struct Run {
        const Product* product;
        const Piece* piece;
        int64_t begin, end, streams, apart;
    };
    // Where the codes of a row begin in a group of columns, and what belongs to them.
    struct Place {
        int8_t* codes;
        float* scale;
        int32_t* sum;
    };
    template <class Body>
    void for_each_block(const Piece& piece, const Body& body) const;
    void split(const int64_t* counts, int64_t groups);
    void allocate();
    void quantize(const RowSource& source);
    void quantize_row(const RowSource& source, int64_t first, int64_t count, int64_t row, int64_t group, int64_t end);
    Place place_of(int64_t first, int64_t count, int64_t row, int64_t group) const;
    void round_to_bf16(const RowSource& source);
    template <class X>
    void round_columns(const X* x, int64_t row, int64_t begin, int64_t count);
    void take_gated(const Piece& piece, int64_t begin, int64_t count, float* gate, const float* up, int64_t stride);
    std::vector<Run> runs_of(const Product* products, int64_t count) const;
    // Several tiles only where streams_of says so.
    void multiply_tiles(const Piece& piece, const Weights& weights, const Tiles& tiles, const OutputTile& out) const;
    int64_t streams_of(const Piece& piece) const { return format_ != Format::bf16 && piece.count <= kStreamedRows ? set_.integer_streams : 1; }
    QuantizedBlock block_at(int64_t row, bool is_alone) const;
    bool is_short() const { return rows_ < kTile * static_cast<int64_t>(pieces_.size()); }

    const InstructionSet& set_;
    Format format_;
    int64_t k_, rows_ = 0;
    int threads_;
    std::vector<Piece> pieces_;
    Aligned<int8_t> codes_;
    Aligned<float> scales_;
    Aligned<int32_t> sums_;
    Aligned<uint16_t> rounded_;  // one of these two for bf16 weights
    Aligned<float> rounded_floats_;
};

}  // namespace zaya
