#include "products.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "instruction_set.h"
#include "layout.h"
#include "parallel.h"

namespace zaya {
namespace {

// Rows of x that stay in a second-level cache while the tiles pass by.
constexpr int64_t kRowsAtATime = 240;

const std::vector<const InstructionSet*>& instruction_sets() {
    static const std::vector<const InstructionSet*> sets = [] {
        std::vector<const InstructionSet*> found;
        for (const InstructionSet* set : {avx512bf16(), avx512vnni(), avx2(), neon_dotprod(), portable()})
            if (set) found.push_back(set);
        return found;
    }();
    return sets;
}

const InstructionSet& instruction_set_at(int index) { return *instruction_sets()[static_cast<size_t>(index)]; }

float as_float(const float* x, int64_t i) { return x[i]; }
float as_float(const uint16_t* x, int64_t i) {
    const uint32_t bits = static_cast<uint32_t>(x[i]) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// --- which rows by which tiles ---------------------------------------------------------------------------------------

// Rows of x that belong to one matrix, worked on in blocks of `block` and a smaller last one.
struct Rows {
    int64_t matrix, first, count, block;
};

// All rows in pieces of one matrix, with blocks of at most `most` and as even as they can be.
std::vector<Rows> split_rows(const ZayaProduct& product, int64_t most) {
    std::vector<Rows> pieces;
    int64_t first = 0;
    for (int64_t matrix = 0; matrix < product.matrices; first += product.counts[matrix++])
        for (int64_t r = 0; r < product.counts[matrix]; r += kRowsAtATime) {
            const int64_t count = std::min(kRowsAtATime, product.counts[matrix] - r);
            const int64_t blocks = (count + most - 1) / most;
            pieces.push_back({matrix, first + r, count, (count + blocks - 1) / blocks});
        }
    return pieces;
}

// body(first row, rows) for each block of a piece.
template <class Body>
void for_each_block(const Rows& rows, const Body& body) {
    for (int64_t row = 0; row < rows.count; row += rows.block)
        body(rows.first + row, std::min(rows.block, rows.count - row));
}

int64_t count_rows(const ZayaProduct& product) {
    int64_t rows = 0;
    for (int64_t i = 0; i < product.matrices; ++i) rows += product.counts[i];
    return rows;
}

// body(rows, tile, where their output goes) for all pieces and all tiles of their matrices.
template <class Body>
void for_each_tile(const ZayaProduct& product, const std::vector<Rows>& pieces, const Body& body) {
    const int64_t tiles = (product.n + kTile - 1) / kTile;
    const int64_t at_a_time = std::max<int64_t>(1, tiles * static_cast<int64_t>(pieces.size()) / (product.threads * 8));
    const int64_t runs = (tiles + at_a_time - 1) / at_a_time;
    parallel_for(product.threads, runs * static_cast<int64_t>(pieces.size()), [&](int64_t item) {
        const Rows& rows = pieces[static_cast<size_t>(item / runs)];
        const int64_t begin = item % runs * at_a_time, end = std::min(begin + at_a_time, tiles);
        for (int64_t tile = begin; tile < end; ++tile) {
            const int64_t column = tile * kTile;
            body(rows, tile, OutputTile{product.y + rows.first * product.n + column, product.n, product.n - column});
        }
    });
}

// --- x in blocks -----------------------------------------------------------------------------------------------------

// A group of one row to codes `stride` * 4 bytes apart by fours; returns their sum.
template <class X>
int32_t quantize_group(const X* x, int8_t* codes, int64_t stride, float* scale) {
    float values[kGroup], largest = 0.0f;
    for (int64_t i = 0; i < kGroup; ++i) {
        values[i] = as_float(x, i);
        largest = std::max(largest, std::fabs(values[i]));
    }
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    int8_t rounded[kGroup];
    int32_t sum = 0;
    for (int64_t i = 0; i < kGroup; ++i) {
        // Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits: vector code on any compiler.
        const float shifted = values[i] * inverse + 12582912.0f;
        int32_t bits;
        std::memcpy(&bits, &shifted, sizeof bits);
        rounded[i] = static_cast<int8_t>(bits - 0x4b400000);
        sum += bits - 0x4b400000;
    }
    for (int64_t i = 0; i < kGroup; i += 4) std::memcpy(codes + i * stride, rounded + i, 4);
    *scale = largest / 127.0f;
    return sum;
}

class QuantizedRows {
public:
    QuantizedRows(const ZayaProduct& product, const std::vector<Rows>& pieces)
        : groups_(product.k / kGroup),
          codes_(new int8_t[static_cast<size_t>(count_rows(product) * product.k)]),
          scales_(new float[static_cast<size_t>(count_rows(product) * groups_)]),
          sums_(new int32_t[static_cast<size_t>(count_rows(product) * groups_)]) {
        parallel_for(product.threads, static_cast<int64_t>(pieces.size()), [&](int64_t item) {
            for_each_block(pieces[static_cast<size_t>(item)], [&](int64_t first, int64_t count) {
                if (product.x_is_bf16)
                    fill(static_cast<const uint16_t*>(product.x), first, count);
                else
                    fill(static_cast<const float*>(product.x), first, count);
            });
        });
    }

    QuantizedBlock block_at(int64_t row) const {
        return {codes_.get() + row * groups_ * kGroup, scales_.get() + row * groups_, sums_.get() + row * groups_, groups_};
    }

private:
    template <class X>
    void fill(const X* x, int64_t first, int64_t count) {
        for (int64_t m = 0; m < count; ++m)
            for (int64_t g = 0; g < groups_; ++g) {
                int8_t* codes = codes_.get() + (first * groups_ + g * count) * kGroup + 4 * m;
                const size_t at = static_cast<size_t>(first * groups_ + g * count + m);
                sums_[at] = quantize_group(x + ((first + m) * groups_ + g) * kGroup, codes, count, &scales_[at]);
            }
    }

    int64_t groups_;
    std::unique_ptr<int8_t[]> codes_;
    std::unique_ptr<float[]> scales_;
    std::unique_ptr<int32_t[]> sums_;
};

void copy_pair(const uint16_t* from, uint16_t* to) { std::memcpy(to, from, 4); }
void copy_pair(const uint16_t* from, float* to) {
    to[0] = as_float(from, 0);
    to[1] = as_float(from, 1);
}

// x (rows, k) bf16 as blocks [K/2][M][2].
template <class X>
std::unique_ptr<X[]> pair_columns(const ZayaProduct& product, const std::vector<Rows>& pieces) {
    std::unique_ptr<X[]> pairs(new X[static_cast<size_t>(count_rows(product) * product.k)]);
    parallel_for(product.threads, static_cast<int64_t>(pieces.size()), [&](int64_t item) {
        for_each_block(pieces[static_cast<size_t>(item)], [&](int64_t first, int64_t count) {
            const auto* x = static_cast<const uint16_t*>(product.x) + first * product.k;
            X* to = pairs.get() + first * product.k;
            for (int64_t m = 0; m < count; ++m)
                for (int64_t i = 0; i < product.k; i += 2) copy_pair(x + m * product.k + i, to + i * count + 2 * m);
        });
    });
    return pairs;
}

// --- products --------------------------------------------------------------------------------------------------------

// tile_bytes, scale_bytes: of one tile's codes and scales.
void multiply_integers(const ZayaProduct& product, IntegerTile multiply, int64_t most, int64_t tile_bytes, int64_t scale_bytes) {
    const std::vector<Rows> pieces = split_rows(product, most);
    const QuantizedRows x(product, pieces);
    for_each_tile(product, pieces, [&](const Rows& rows, int64_t tile, const OutputTile& out) {
        const char* codes = static_cast<const char*>(product.weights[rows.matrix]) + tile * tile_bytes;
        const char* scales = static_cast<const char*>(product.scales[rows.matrix]) + tile * scale_bytes;
        for_each_block(rows, [&](int64_t first, int64_t count) {
            const OutputTile part = {out.y + (first - rows.first) * out.stride, out.stride, out.valid};
            multiply(x.block_at(first), count, codes, scales, part);
        });
    });
}

template <class X>
void multiply_bf16(const ZayaProduct& product, const InstructionSet& set) {
    const std::vector<Rows> pieces = split_rows(product, set.bf16_rows);
    const std::unique_ptr<X[]> x = pair_columns<X>(product, pieces);
    for_each_tile(product, pieces, [&](const Rows& rows, int64_t tile, const OutputTile& out) {
        const auto* w = static_cast<const uint16_t*>(product.weights[rows.matrix]) + tile * kTile * product.k;
        set.bf16({x.get() + rows.first * product.k, rows.count, rows.block, product.k}, w, out);
    });
}

}  // namespace
}  // namespace zaya

using namespace zaya;

void zaya_use_parallel_region(void* region) { use_parallel_region(reinterpret_cast<ParallelRegion>(region)); }

const char* zaya_instruction_set(int index) {
    return static_cast<size_t>(index) < instruction_sets().size() ? instruction_set_at(index).name : nullptr;
}

int zaya_is_supported(int index) { return instruction_set_at(index).is_supported(); }

int zaya_has_bf16(int index) { return instruction_set_at(index).bf16 != nullptr; }

void zaya_multiply_int4(int instruction_set, const ZayaProduct* product) {
    const InstructionSet& set = instruction_set_at(instruction_set);
    const int64_t groups = product->k / kGroup;
    multiply_integers(*product, set.int4, set.integer_rows, groups * kInt4TileGroupBytes, groups * kTile * 2);
}

void zaya_multiply_int8(int instruction_set, const ZayaProduct* product) {
    const InstructionSet& set = instruction_set_at(instruction_set);
    const int64_t groups = product->k / kGroup;
    multiply_integers(*product, set.int8, set.integer_rows, groups * kInt8TileGroupBytes, kTile * 4);
}

void zaya_multiply_bf16(int instruction_set, const ZayaProduct* product) {
    const InstructionSet& set = instruction_set_at(instruction_set);
    if (set.bf16_takes_float)
        multiply_bf16<float>(*product, set);
    else
        multiply_bf16<uint16_t>(*product, set);
}
