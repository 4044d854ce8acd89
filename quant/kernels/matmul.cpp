#include "matmul.h"

#include <algorithm>

#include "bits.h"
#include "parallel.h"

namespace zaya {
namespace {

// Rows of x that stay in a second-level cache while the tiles pass by: of codes, and of bf16 numbers, maybe as float32.
constexpr int64_t kCodeRows = 240, kBf16Rows = 64;
constexpr int64_t kMostTiles = 64;                         // that a thread takes at once
constexpr int64_t kGroupsAtOnce = 128;                     // of all rows of a block that a thread rounds at once
constexpr int64_t kGatedOfMany = 128, kGatedOfFew = 1024;  // columns of gate and up that a thread takes at once

uint16_t as_bf16(uint16_t x) { return x; }
uint16_t as_bf16(float x) { return to_bf16(x); }

// 32 columns, the even ones first.
template <class X>
void split_columns(const X* from, float* to) {
    for (int64_t i = 0; i < 16; ++i) to[i] = as_float(as_bf16(from[2 * i]));
    for (int64_t i = 0; i < 16; ++i) to[16 + i] = as_float(as_bf16(from[2 * i + 1]));
}

}  // namespace

// --- rows ------------------------------------------------------------------------------------------------------------

PreparedRows::PreparedRows(const InstructionSet& set, Format format, const RowSource& x, int64_t k, const int64_t* counts,
                           int64_t groups, int threads)
    : set_(set), format_(format), k_(k), threads_(threads) {
    split(counts, groups);
    allocate();
    format == Format::bf16 ? round_to_bf16(x) : quantize(x);
}

PreparedRows::PreparedRows(const PreparedRows& like, int64_t k)
    : set_(like.set_), format_(like.format_), k_(k), rows_(like.rows_), threads_(like.threads_), pieces_(like.pieces_) {
    allocate();
}

void PreparedRows::allocate() {
    const int64_t groups = k_ / kGroup;
    if (format_ != Format::bf16)
        codes_ = aligned<int8_t>(rows_ * k_), scales_ = aligned<float>(rows_ * groups), sums_ = aligned<int32_t>(rows_ * groups);
    else if (set_.bf16_takes_float)
        rounded_floats_ = aligned<float>(rows_ * k_);
    else
        rounded_ = aligned<uint16_t>(rows_ * k_);
}

// Pieces of one group, those of codes with blocks as even as they can be.
void PreparedRows::split(const int64_t* counts, int64_t groups) {
    const bool is_bf16 = format_ == Format::bf16;
    const int64_t at_a_time = is_bf16 ? kBf16Rows : kCodeRows, most = is_bf16 ? kBf16Rows : set_.integer_rows;
    for (int64_t group = 0; group < groups; rows_ += counts[group++])
        for (int64_t r = 0; r < counts[group]; r += at_a_time) {
            const int64_t count = std::min(at_a_time, counts[group] - r);
            const int64_t blocks = (count + most - 1) / most;
            pieces_.push_back({group, rows_ + r, count, (count + blocks - 1) / blocks});
        }
}

// body(first row, rows) for each block of a piece.
template <class Body>
void PreparedRows::for_each_block(const Piece& piece, const Body& body) const {
    for (int64_t row = 0; row < piece.count; row += piece.block)
        body(piece.first + row, std::min(piece.block, piece.count - row));
}

// The codes of a block's rows lie between each other, so a thread takes all rows of some columns: two that wrote to the same
// cache lines would pass each of them to and fro.
void PreparedRows::quantize(const RowSource& source) {
    struct Share {
        int64_t first, count, begin, end;  // rows of a block, and groups of columns
    };
    const int64_t groups = k_ / kGroup;
    std::vector<Share> shares;
    for (const Piece& piece : pieces_)
        for_each_block(piece, [&](int64_t first, int64_t count) {
            const int64_t at_a_time = std::max<int64_t>(1, kGroupsAtOnce / count);
            for (int64_t g = 0; g < groups; g += at_a_time) shares.push_back({first, count, g, std::min(g + at_a_time, groups)});
        });
    parallel_for(threads_, static_cast<int64_t>(shares.size()), [&](int64_t item) {
        const Share& share = shares[static_cast<size_t>(item)];
        for (int64_t row = 0; row < share.count; ++row) quantize_row(source, share.first, share.count, row, share.begin, share.end);
    });
}

// Groups of columns of one row of a block of `count` rows.
void PreparedRows::quantize_row(const RowSource& source, int64_t first, int64_t count, int64_t row, int64_t group, int64_t end) {
    const int64_t begin = source.place(first + row) * k_;
    if (!source.is_bf16) {
        const Place to = place_of(first, count, row, group);
        return set_.steps.quantize(source.floats() + begin + group * kGroup, end - group, count, to.codes, to.scale, to.sum);
    }
    for (; group < end; ++group) {
        float values[kGroup];
        for (int64_t i = 0; i < kGroup; ++i) values[i] = as_float(source.bf16()[begin + group * kGroup + i]);
        const Place to = place_of(first, count, row, group);
        set_.steps.quantize(values, 1, count, to.codes, to.scale, to.sum);
    }
}

PreparedRows::Place PreparedRows::place_of(int64_t first, int64_t count, int64_t row, int64_t group) const {
    const int64_t at = first * (k_ / kGroup) + group * count + row;
    return {codes_.get() + first * k_ + group * kGroup * count + 4 * row, scales_.get() + at, sums_.get() + at};
}

void PreparedRows::round_to_bf16(const RowSource& source) {
    parallel_rows(threads_, rows_, [&](int64_t row) {
        if (source.is_bf16)
            round_columns(source.bf16() + source.place(row) * k_, row, 0, k_);
        else
            round_columns(source.floats() + source.place(row) * k_, row, 0, k_);
    });
}

template <class X>
void PreparedRows::round_columns(const X* x, int64_t row, int64_t begin, int64_t count) {
    const int64_t at = row * k_ + begin;
    if (rounded_)
        std::transform(x, x + count, rounded_.get() + at, [](X value) { return as_bf16(value); });
    else
        for (int64_t i = 0; i < count; i += 32) split_columns(x + i, rounded_floats_.get() + at + i);
}

// Columns `begin` to begin + count - 1 of a piece's rows, silu(gate) * up, which lie `stride` apart and are written over.
void PreparedRows::take_gated(const Piece& piece, int64_t begin, int64_t count, float* gate, const float* up, int64_t stride) {
    for_each_block(piece, [&](int64_t first, int64_t rows) {
        for (int64_t row = 0; row < rows; ++row, gate += stride, up += stride) {
            set_.steps.gate(gate, up, count, gate);
            if (format_ == Format::bf16) {
                round_columns(gate, first + row, begin, count);
                continue;
            }
            const Place to = place_of(first, rows, row, begin / kGroup);
            set_.steps.quantize(gate, count / kGroup, rows, to.codes, to.scale, to.sum);
        }
    });
}

QuantizedBlock PreparedRows::block_at(int64_t row, bool is_alone) const {
    const int64_t groups = k_ / kGroup;
    return {codes_.get() + row * k_, scales_.get() + row * groups, sums_.get() + row * groups, groups, is_alone};
}

// --- products --------------------------------------------------------------------------------------------------------

// A thread goes on with the run after the one it has, so that each of its streams is read in order.
std::vector<PreparedRows::Run> PreparedRows::runs_of(const Product* products, int64_t count) const {
    const auto tiles_of = [](const Product& product) { return (product.n + kTile - 1) / kTile; };
    int64_t tiles = 0;
    for (int64_t i = 0; i < count; ++i) tiles += tiles_of(products[i]) * static_cast<int64_t>(pieces_.size());
    // A thread waits for the last run of the others, which takes long where a piece has many rows, or a run many tiles.
    const int64_t at_a_time = std::clamp<int64_t>(tiles / (threads_ * (is_short() ? 8 : 64)), 1, kMostTiles);
    std::vector<Run> runs;
    const auto add = [&](const Product& product, const Piece& piece, int64_t begin, int64_t end, int64_t streams) {
        const int64_t apart = (end - begin) / streams, step = at_a_time / streams;
        for (int64_t tile = begin; tile < begin + apart; tile += step)
            runs.push_back({&product, &piece, tile, std::min(tile + step, begin + apart), streams, apart});
    };
    for (const Product* product = products; product < products + count; ++product)
        for (const Piece& piece : pieces_) {
            const int64_t all = tiles_of(*product), streams = at_a_time < streams_of(piece) ? 1 : streams_of(piece), even = all / streams * streams;
            add(*product, piece, 0, even, streams);
            add(*product, piece, even, all, 1);
        }
    return runs;
}

void PreparedRows::multiply(const Product* products, int64_t count) const {
    const std::vector<Run> runs = runs_of(products, count);
    parallel_for(threads_, static_cast<int64_t>(runs.size()), [&](int64_t item) {
        const Run& run = runs[static_cast<size_t>(item)];
        const Product& product = *run.product;
        for (int64_t tile = run.begin; tile < run.end; ++tile) {
            float* y = product.y + run.piece->first * product.stride + tile * kTile;
            multiply_tiles(*run.piece, product.weights[run.piece->group], {tile, run.streams, run.apart}, {y, product.stride, product.n - tile * kTile});
        }
    });
}

// Weights of few rows are read in long stretches. Of many rows, who has some columns of gate and up makes of them what is
// read next while they are in its cache.
PreparedRows PreparedRows::gated(const Weights* weights, int64_t n) const {
    PreparedRows out(*this, n);
    const Aligned<float> few = aligned<float>(is_short() ? rows_ * 2 * n : 0);
    if (is_short()) multiply(weights, 2 * n, few.get());
    const int64_t at_a_time = is_short() ? kGatedOfFew : kGatedOfMany, runs = (n + at_a_time - 1) / at_a_time;
    parallel_for(threads_, static_cast<int64_t>(pieces_.size()) * runs, [&](int64_t item) {
        const Piece& piece = pieces_[static_cast<size_t>(item / runs)];
        const int64_t begin = item % runs * at_a_time, count = std::min(at_a_time, n - begin);
        if (is_short()) {
            float* gate = few.get() + piece.first * 2 * n + begin;
            return out.take_gated(piece, begin, count, gate, gate + n, 2 * n);
        }
        const Aligned<float> many = aligned<float>(piece.count * 2 * count);
        for (const int64_t half : {0, 1})
            for (int64_t i = 0; i < count; i += kTile)
                multiply_tiles(piece, weights[piece.group], {(half * n + begin + i) / kTile, 1, 0}, {many.get() + half * count + i, 2 * count, kTile});
        out.take_gated(piece, begin, count, many.get(), many.get() + count, 2 * count);
    });
    return out;
}

void PreparedRows::multiply_tiles(const Piece& piece, const Weights& weights, const Tiles& tiles, const OutputTile& out) const {
    if (format_ == Format::bf16) {
        const auto* w = static_cast<const uint16_t*>(weights.codes) + tiles.first * kTile * k_;
        const int64_t at = piece.first * k_;
        const void* x = rounded_ ? static_cast<const void*>(rounded_.get() + at) : rounded_floats_.get() + at;
        return set_.bf16({x, piece.count, k_}, w, out);
    }
    const IntegerTiles product = format_ == Format::int4 ? set_.int4 : set_.int8;
    for_each_block(piece, [&](int64_t first, int64_t rows) {
        const OutputTile part = {out.y + (first - piece.first) * out.stride, out.stride, out.valid};
        product(block_at(first, rows == piece.count), rows, weights, tiles, part);
    });
}

}  // namespace zaya
