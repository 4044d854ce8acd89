#include "quant/kernels/cpu/gemm/matmul.h"

#include <algorithm>
#include <vector>

#include "quant/kernels/abi.h"
#include "quant/kernels/cpu/gemm/bits.h"
#include "quant/kernels/cpu/parallel/parallel.h"

namespace zaya {
namespace {

// Rows of x that stay in the L2 cache while the tiles stream by: of int8 codes, and of bf16 numbers or float32.
constexpr int64_t kCodeRows = 240, kBf16Rows = 64;
constexpr int64_t kMostTiles = 64;                           // of a work item
constexpr int64_t kQuantizedGroups = 128;                    // of all rows of a block that a thread quantizes at once
constexpr int64_t kSwigluOfMany = 128, kSwigluOfFew = 1024;  // columns of gate and up of a work item

uint16_t as_bf16(uint16_t x) { return x; }
uint16_t as_bf16(float x) { return to_bf16(x); }

// 32 columns, the even ones first.
template <class X>
void split_columns(const X* from, float* to) {
    for (int64_t i = 0; i < 16; ++i) to[i] = as_float(as_bf16(from[2 * i]));
    for (int64_t i = 0; i < 16; ++i) to[16 + i] = as_float(as_bf16(from[2 * i + 1]));
}

int64_t tiles_of(int64_t n) { return (n + kTile - 1) / kTile; }

}  // namespace

// --- rows ------------------------------------------------------------------------------------------------------------

Activations::Activations(const ProductSet& products, Format format, const RowSource& x, int64_t k,
                         const int64_t* counts, int64_t groups, int threads)
    : products_(products), format_(format), k_(k), threads_(threads) {
    split(counts, groups);
    allocate();
    format == Format::bf16 ? round_to_bf16(x) : quantize(x);
}

Activations::Activations(const Activations& like, int64_t k)
    : products_(like.products_),
      format_(like.format_),
      k_(k),
      rows_(like.rows_),
      threads_(like.threads_),
      ranges_(like.ranges_) {
    allocate();
}

void Activations::allocate() {
    const int64_t groups = k_ / kGroup;
    if (format_ != Format::bf16)
        codes_ = aligned<int8_t>(rows_ * k_), scales_ = aligned<float>(rows_ * groups),
        sums_ = aligned<GroupSum>(rows_ * groups);
    else if (products_.bf16_takes_float)
        rounded_floats_ = aligned<float>(rows_ * k_);
    else
        rounded_ = aligned<uint16_t>(rows_ * k_);
}

// Ranges of one group, those of codes with blocks as even as they can be.
void Activations::split(const int64_t* counts, int64_t groups) {
    const bool is_bf16 = format_ == Format::bf16;
    const int64_t at_a_time = is_bf16 ? kBf16Rows : kCodeRows, most = is_bf16 ? kBf16Rows : products_.int_rows;
    for (int64_t group = 0; group < groups; rows_ += counts[group++])
        for (int64_t r = 0; r < counts[group]; r += at_a_time) {
            const int64_t count = std::min(at_a_time, counts[group] - r);
            const int64_t blocks = (count + most - 1) / most;
            ranges_.push_back({group, rows_ + r, count, (count + blocks - 1) / blocks});
        }
}

// body(first row, rows) for each block of a range.
template <class Body>
void Activations::for_each_block(const RowRange& rows, const Body& body) const {
    for (int64_t row = 0; row < rows.count; row += rows.block)
        body(rows.first + row, std::min(rows.block, rows.count - row));
}

// The codes of a block's rows are interleaved, so a thread takes all rows of some columns: no false sharing.
void Activations::quantize(const RowSource& source) {
    struct Item {
        int64_t first, count, begin, end;  // rows of a block, and groups of columns
    };
    const int64_t groups = k_ / kGroup;
    std::vector<Item> items;
    for (const RowRange& rows : ranges_)
        for_each_block(rows, [&](int64_t first, int64_t count) {
            const int64_t at_a_time = std::max<int64_t>(1, kQuantizedGroups / count);
            for (int64_t g = 0; g < groups; g += at_a_time)
                items.push_back({first, count, g, std::min(g + at_a_time, groups)});
        });
    parallel_for(threads_, static_cast<int64_t>(items.size()), [&](int64_t i) {
        const Item& item = items[static_cast<size_t>(i)];
        for (int64_t row = 0; row < item.count; ++row)
            quantize_row(source, item.first, item.count, row, item.begin, item.end);
    });
}

// Groups of columns of one row of a block of `count` rows.
void Activations::quantize_row(const RowSource& source, int64_t first, int64_t count, int64_t row, int64_t group,
                               int64_t end) {
    const int64_t begin = source.row_at(first + row) * k_;
    if (!source.is_bf16) {
        const Slot to = slot_of(first, count, row, group);
        return products_.quantize(source.floats() + begin + group * kGroup, end - group, count, to.codes, to.scale,
                                  to.sum);
    }
    for (; group < end; ++group) {
        float values[kGroup];
        for (int64_t i = 0; i < kGroup; ++i) values[i] = as_float(source.bf16()[begin + group * kGroup + i]);
        const Slot to = slot_of(first, count, row, group);
        products_.quantize(values, 1, count, to.codes, to.scale, to.sum);
    }
}

Activations::Slot Activations::slot_of(int64_t first, int64_t count, int64_t row, int64_t group) const {
    const int64_t at = first * (k_ / kGroup) + group * count + row;
    return {codes_.get() + first * k_ + group * kGroup * count + 4 * row, scales_.get() + at, sums_.get() + at};
}

void Activations::round_to_bf16(const RowSource& source) {
    parallel_rows(threads_, rows_, [&](int64_t row) {
        if (source.is_bf16)
            round_columns(source.bf16() + source.row_at(row) * k_, row, 0, k_);
        else
            round_columns(source.floats() + source.row_at(row) * k_, row, 0, k_);
    });
}

template <class X>
void Activations::round_columns(const X* x, int64_t row, int64_t begin, int64_t count) {
    const int64_t at = row * k_ + begin;
    if (rounded_)
        std::transform(x, x + count, rounded_.get() + at, [](X value) { return as_bf16(value); });
    else
        for (int64_t i = 0; i < count; i += 32) split_columns(x + i, rounded_floats_.get() + at + i);
}

// The epilogue of gate and up: columns `begin` to begin + count - 1 of some rows become silu(gate) * up. Both lie
// `stride` apart, and gate is written over.
void Activations::take_swiglu(const RowRange& range, int64_t begin, int64_t count, float* gate, const float* up,
                              int64_t stride) {
    for_each_block(range, [&](int64_t first, int64_t rows) {
        for (int64_t row = 0; row < rows; ++row, gate += stride, up += stride) {
            products_.swiglu(gate, up, count, gate);
            if (format_ == Format::bf16) {
                round_columns(gate, first + row, begin, count);
                continue;
            }
            const Slot to = slot_of(first, rows, row, begin / kGroup);
            products_.quantize(gate, count / kGroup, rows, to.codes, to.scale, to.sum);
        }
    });
}

QuantizedBlock Activations::block_at(int64_t row, bool is_alone) const {
    const int64_t groups = k_ / kGroup;
    return {codes_.get() + row * k_, scales_.get() + row * groups, sums_.get() + row * groups, groups, is_alone};
}

// --- gemm ------------------------------------------------------------------------------------------------------------

// Items are small where they take long (many rows), so that no thread waits long for the last one.
std::vector<Activations::WorkItem> Activations::work_items(const Product* products, int64_t count) const {
    int64_t tiles = 0;
    for (int64_t i = 0; i < count; ++i) tiles += tiles_of(products[i].n) * static_cast<int64_t>(ranges_.size());
    const int64_t at_a_time = std::clamp<int64_t>(tiles / (threads_ * (is_short() ? 8 : 64)), 1, kMostTiles);
    std::vector<WorkItem> items;
    for (const Product* product = products; product < products + count; ++product)
        for (const RowRange& rows : ranges_)
            for (int64_t tile = 0, end = tiles_of(product->n); tile < end; tile += at_a_time)
                items.push_back({product, &rows, {tile, std::min(tile + at_a_time, end)}});
    return items;
}

void Activations::multiply(const Product* products, int64_t count) const {
    const std::vector<WorkItem> items = work_items(products, count);
    parallel_for(threads_, static_cast<int64_t>(items.size()), [&](int64_t i) {
        const WorkItem& item = items[static_cast<size_t>(i)];
        const Product& product = *item.product;
        const int64_t column = item.tiles.begin * kTile;
        float* y = product.y + item.rows->first * product.stride + column;
        gemm(*item.rows, product.weights[item.rows->group], item.tiles, {y, product.stride, product.n - column});
    });
}

// Few rows are bound by memory, which is read in long ranges of tiles. Of many rows the epilogue runs while the columns
// of gate and up are in the cache.
Activations Activations::swiglu(const Weights* weights, int64_t n) const {
    Activations out(*this, n);
    const Aligned<float> few = aligned<float>(is_short() ? rows_ * 2 * n : 0);
    if (is_short()) multiply(weights, 2 * n, few.get());
    const int64_t at_a_time = is_short() ? kSwigluOfFew : kSwigluOfMany, items = (n + at_a_time - 1) / at_a_time;
    parallel_for(threads_, static_cast<int64_t>(ranges_.size()) * items, [&](int64_t item) {
        const RowRange& rows = ranges_[static_cast<size_t>(item / items)];
        const int64_t begin = item % items * at_a_time, count = std::min(at_a_time, n - begin);
        if (is_short()) {
            float* gate = few.get() + rows.first * 2 * n + begin;
            return out.take_swiglu(rows, begin, count, gate, gate + n, 2 * n);
        }
        const Aligned<float> many = aligned<float>(rows.count * 2 * count);
        for (const int64_t half : {0, 1}) {
            const int64_t first = (half * n + begin) / kTile;
            gemm(rows, weights[rows.group], {first, first + count / kTile},
                 {many.get() + half * count, 2 * count, count});
        }
        out.take_swiglu(rows, begin, count, many.get(), many.get() + count, 2 * count);
    });
    return out;
}

void Activations::gemm(const RowRange& rows, const Weights& weights, const TileRange& tiles, const Output& out) const {
    format_ == Format::bf16 ? bf16_gemm(rows, weights, tiles, out) : int_gemm(rows, weights, tiles, out);
}

void Activations::bf16_gemm(const RowRange& rows, const Weights& weights, const TileRange& tiles,
                            const Output& out) const {
    const int64_t at = rows.first * k_;
    const void* x = rounded_ ? static_cast<const void*>(rounded_.get() + at) : rounded_floats_.get() + at;
    for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
        const auto* w = static_cast<const uint16_t*>(weights.codes) + tile * kTile * k_;
        products_.bf16_gemm({x, rows.count, k_}, w, out.from_column((tile - tiles.begin) * kTile));
    }
}

// A single block takes the whole range of tiles; several blocks share each tile while it is in the cache.
void Activations::int_gemm(const RowRange& range, const Weights& weights, const TileRange& tiles,
                           const Output& out) const {
    const IntGemm kernel = format_ == Format::int4 ? products_.int4_gemm : products_.int8_gemm;
    const int64_t step = range.count <= range.block ? tiles.end - tiles.begin : 1;
    for (int64_t tile = tiles.begin; tile < tiles.end; tile += step) {
        const Output own = out.from_column((tile - tiles.begin) * kTile);
        for_each_block(range, [&](int64_t first, int64_t rows) {
            const Output of_block = {own.y + (first - range.first) * own.stride, own.stride, own.valid};
            kernel(block_at(first, rows == range.count), rows, weights, {tile, tile + step}, of_block);
        });
    }
}

}  // namespace zaya

void quant_gemm(int instruction_set, const QuantGemm* gemm) {
    using namespace zaya;
    std::vector<Weights> weights;
    for (int64_t i = 0; i < gemm->matrices; ++i)
        weights.push_back({gemm->weights[i], gemm->scales ? gemm->scales[i] : nullptr});
    const RowSource source = {gemm->x, gemm->x_is_bf16 != 0, nullptr};
    const Activations x(products_at(instruction_set), static_cast<Format>(gemm->format), source, gemm->k, gemm->counts,
                        gemm->matrices, gemm->threads);
    x.multiply(weights.data(), gemm->n, gemm->y);
}
