// Attention of many new tokens a row over the blocks of the cache: queries of neighbouring tokens share what they read.

#include <algorithm>
#include <cmath>
#include <memory>

#include "aligned.h"
#include "block_tables.h"
#include "instruction_set.h"
#include "layer.h"
#include "parallel.h"

namespace zaya {
namespace {

constexpr int64_t kTokens = 32;  // new ones that are worked on together

// What one thread works out: some new tokens of one row, and the queries of one key head. Query q of them is that of
// token q / group; so many as fill 16 rows are worked on, the last ones zero.
class TokenGroup {
public:
    TokenGroup(const InstructionSet& set, const ZayaLayer& layer, const ZayaPromptAttention& pass, int64_t row, int64_t head, int64_t first)
        : set_(set), pairs_(*set.pairs), layer_(layer), pass_(pass), row_(row), head_(head), first_(first), width_(layer.head_dim) {
        group_ = layer.query_heads / layer.key_heads;
        tokens_ = std::min(kTokens, pass.lengths[row] - first);
        queries_ = (tokens_ * group_ + kTile - 1) / kTile * kTile;
        const auto floats = [](int64_t n) { return std::unique_ptr<float[]>(new float[static_cast<size_t>(n)]()); };
        x_ = floats(queries_ * width_), weights_ = floats(kTile * kMostPositions);
        scores_ = floats(queries_ * kMostPositions), out_ = floats(queries_ * width_), sum_ = floats(queries_), largest_ = floats(queries_);
        columns_ = aligned<float>(kMostPositions * width_ / 2);
        if (is_int8()) codes_.reset(new uint16_t[static_cast<size_t>(kMostPositions * width_)]);
        std::fill_n(largest_.get(), queries_, -INFINITY);
    }

    void run() {
        load_queries();
        const int64_t last = position_of(tokens_ - 1), begin = first_seen(position_of(0));
        const int64_t step = run_length(pass_);
        for (int64_t at = begin / step * step; at <= last; at += step) {
            begin_ = at, count_ = std::min(step, last + 1 - at);
            first_head_ = slot_of(pass_, row_, at) * layer_.key_heads + head_;
            score();
            for (int64_t q = 0; q < tokens_ * group_; ++q) weigh(q);
            add_values();
        }
        store();
    }

private:
    bool is_int8() const { return static_cast<KeyValueFormat>(pass_.format) == KeyValueFormat::int8; }
    int64_t position_of(int64_t token) const { return pass_.past[row_] + first_ + token; }
    int64_t first_seen(int64_t position) const { return pass_.window ? std::max<int64_t>(0, position + 1 - pass_.window) : 0; }
    // The queries of a token lie side by side.
    int64_t token_at(int64_t token) const {
        return ((row_ * pass_.columns + first_ + token) * layer_.query_heads + head_ * group_) * width_;
    }
    char* x_at(int64_t query) const { return reinterpret_cast<char*>(x_.get()) + query * width_ * pairs_.x_bytes; }

    void load_queries() {
        const float factor = 1.0f / std::sqrt(static_cast<float>(width_));
        float* rows = out_.get();  // until they are in pairs
        for (int64_t token = 0; token < tokens_; ++token) {
            const float* from = pass_.query + token_at(token);
            for (int64_t i = 0; i < group_ * width_; ++i) rows[token * group_ * width_ + i] = from[i] * factor;
        }
        for (int64_t q = 0; q < queries_; q += kTile) pairs_.pair_inputs(rows + q * width_, width_, width_, x_at(q));
        std::fill_n(rows, queries_ * width_, 0.0f);
    }

    // The run's keys or values of this head as bf16, `stride` apart.
    const uint16_t* as_bf16(const void* storage, int64_t* stride) const {
        *stride = layer_.key_heads * width_;
        if (!is_int8()) return static_cast<const uint16_t*>(storage) + first_head_ * width_;
        const int8_t* codes = static_cast<const int8_t*>(storage) + first_head_ * width_;
        for (int64_t p = 0; p < count_; ++p) pairs_.widen(codes + p * *stride, width_, codes_.get() + p * width_);
        *stride = width_;
        return codes_.get();
    }

    // scores_ (queries, kMostPositions)
    void score() {
        int64_t stride;
        const uint16_t* keys = as_bf16(pass_.keys, &stride);
        for (int64_t p = 0; p < count_; p += kTile) {
            pairs_.pair_columns(keys + p * stride, stride, count_ - p, width_, columns_.get());
            for (int64_t q = 0; q < queries_; q += kTile)
                pairs_.multiply(x_at(q), columns_.get(), width_, scores_.get() + q * kMostPositions + p, kMostPositions, false);
        }
    }

    // One query's scores to weights, zero where it does not see.
    void weigh(int64_t q) {
        const int64_t position = position_of(q / group_);
        const int64_t seen = std::clamp<int64_t>(position + 1 - begin_, 0, count_), unseen = std::clamp<int64_t>(first_seen(position) - begin_, 0, seen);
        float* scores = scores_.get() + q * kMostPositions;
        if (unseen == seen) {  // only other tokens of the group see it
            std::fill_n(scores, kMostPositions, 0.0f);
            return;
        }
        multiply_by(pass_.key_scales, scores);
        std::fill_n(scores, unseen, -INFINITY);
        const auto at = static_cast<size_t>(q);
        set_.steps.weigh(scores, seen, width_, &largest_[at], &sum_[at], out_.get() + q * width_);
        std::fill_n(scores, unseen, 0.0f);
        std::fill(scores + seen, scores + kMostPositions, 0.0f);
        multiply_by(pass_.value_scales, scores);
    }

    void multiply_by(const float* scales, float* row) const {
        for (int64_t p = 0; is_int8() && p < count_; ++p) row[p] *= scales[first_head_ + p * layer_.key_heads];
    }

    void add_values() {
        int64_t stride;
        const uint16_t* values = as_bf16(pass_.values, &stride);
        const int64_t pairs = (count_ + 1) / 2;
        for (int64_t i = 0; i < width_; i += kTile) pairs_.pair_rows(values + i, stride, count_, columns_.get() + i * pairs);
        for (int64_t q = 0; q < queries_; q += kTile) {
            pairs_.pair_inputs(scores_.get() + q * kMostPositions, kMostPositions, (count_ + 31) / 32 * 32, weights_.get());
            for (int64_t i = 0; i < width_; i += kTile)
                pairs_.multiply(weights_.get(), columns_.get() + i * pairs, 2 * pairs, out_.get() + q * width_ + i, width_, true);
        }
    }

    void store() const {
        for (int64_t q = 0; q < tokens_ * group_; ++q) {
            float* to = pass_.out + token_at(q / group_) + q % group_ * width_;
            for (int64_t i = 0; i < width_; ++i) to[i] = out_[static_cast<size_t>(q * width_ + i)] / sum_[static_cast<size_t>(q)];
        }
    }

    const InstructionSet& set_;
    const PairProducts& pairs_;
    const ZayaLayer& layer_;
    const ZayaPromptAttention& pass_;
    int64_t row_, head_, first_, width_, group_, tokens_, queries_;
    int64_t begin_ = 0, count_ = 0, first_head_ = 0;  // of the run of positions that is worked on
    std::unique_ptr<float[]> x_, weights_, scores_, out_, sum_, largest_;
    Aligned<float> columns_;  // of keys or values in pairs
    std::unique_ptr<uint16_t[]> codes_;
};

}  // namespace
}  // namespace zaya

void zaya_attend_prompt(int instruction_set, const ZayaLayer* layer, const ZayaPromptAttention* pass) {
    const zaya::InstructionSet& set = zaya::instruction_set_at(instruction_set);
    const int64_t groups = (pass->columns + zaya::kTokens - 1) / zaya::kTokens;
    zaya::parallel_for(pass->threads, pass->batch * layer->key_heads * groups, [&](int64_t item) {
        const int64_t row = item / (layer->key_heads * groups), first = item / layer->key_heads % groups * zaya::kTokens;
        if (first < pass->lengths[row]) zaya::TokenGroup(set, *layer, *pass, row, item % layer->key_heads, first).run();
    });
}
