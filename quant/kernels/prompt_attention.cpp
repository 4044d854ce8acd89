// Attention of many new tokens a row over the blocks of the cache: queries of neighbouring tokens share what they read.

#include <algorithm>
#include <cmath>
#include <memory>

#include "aligned.h"
#include "instruction_set.h"
#include "key_values.h"
#include "layer.h"
#include "parallel.h"

namespace zaya {
namespace {

constexpr int64_t kTokens = 32;          // new ones that are worked on together
constexpr int64_t kPositions = 128;      // that they see at a time, up to a multiple of it
constexpr int64_t kColumns = 2 * kTile;  // of a product

// What one thread works out: some new tokens of one row, and the queries of one key head. Query q of them is that of
// token q / group; so many as fill 16 rows are worked on, the last ones zero.
class TokenGroup {
public:
    TokenGroup(const InstructionSet& set, const ZayaLayer& layer, const ZayaPromptAttention& pass, int64_t row, int64_t head, int64_t first)
        : set_(set), pairs_(*set.pairs), layer_(layer), pass_(pass), cache_(layer, pass.cache), row_(row), head_(head), first_(first), width_(layer.head_dim) {
        group_ = layer.query_heads / layer.key_heads;
        tokens_ = std::min(kTokens, pass.lengths[row] - first);
        queries_ = (tokens_ * group_ + kTile - 1) / kTile * kTile;
        const auto floats = [](int64_t n) { return std::unique_ptr<float[]>(new float[static_cast<size_t>(n)]()); };
        x_ = floats(queries_ * width_), weights_ = floats(queries_ * kPositions);
        scores_ = floats(queries_ * kPositions), out_ = floats(queries_ * width_), sum_ = floats(queries_), largest_ = floats(queries_);
        if (cache_.format == KeyValueFormat::int8) columns_ = aligned<uint16_t>(kColumns * std::max(kPositions, width_));
        std::fill_n(largest_.get(), queries_, -INFINITY);
    }

    void run() {
        load_queries();
        const int64_t last = position_of(tokens_ - 1), begin = first_seen(position_of(0));
        for (int64_t at = begin / kColumns * kColumns; at <= last; at += count_) {
            run_ = cache_.run_at(row_, head_, at, last + 1, kPositions);
            begin_ = at, count_ = run_.end - run_.begin;
            score();
            for (int64_t q = 0; q < tokens_ * group_; ++q) weigh(q);
            add_values();
        }
        store();
    }

private:
    int64_t position_of(int64_t token) const { return pass_.past[row_] + first_ + token; }
    int64_t first_seen(int64_t position) const { return pass_.window ? std::max<int64_t>(0, position + 1 - pass_.window) : 0; }
    // The queries of a token lie side by side.
    int64_t token_at(int64_t token) const {
        return ((row_ * pass_.columns + first_ + token) * layer_.query_heads + head_ * group_) * width_;
    }
    char* x_at(int64_t query) const { return reinterpret_cast<char*>(x_.get()) + query * width_ * pairs_.x_bytes; }
    char* weights_at(int64_t query) const { return reinterpret_cast<char*>(weights_.get()) + query * kPositions * pairs_.x_bytes; }

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

    // Two tiles of columns of the run's keys or values, of `count` numbers each.
    struct Columns {
        const uint16_t* first;
        int64_t next;
    };
    Columns columns_at(const void* storage, int64_t first, int64_t next, int64_t count) {
        if (cache_.format != KeyValueFormat::int8) return {static_cast<const uint16_t*>(storage) + first, next};
        const int8_t* codes = static_cast<const int8_t*>(storage) + first;
        pairs_.widen(codes, count, columns_.get());
        pairs_.widen(codes + next, count, columns_.get() + count * kTile);
        return {columns_.get(), count * kTile};
    }

    // scores_ (queries, kPositions)
    void score() {
        for (int64_t p = 0; p < count_; p += kColumns) {
            const Columns keys = columns_at(run_.keys, (run_.begin + p) * width_, kTile * width_, width_);
            for (int64_t q = 0; q < queries_; q += kTile)
                pairs_.multiply(x_at(q), keys.first, keys.next, width_, scores_.get() + q * kPositions + p, kPositions, false);
        }
    }

    // One query's scores to weights, zero where it does not see.
    void weigh(int64_t q) {
        const int64_t position = position_of(q / group_);
        const int64_t seen = std::clamp<int64_t>(position + 1 - begin_, 0, count_), unseen = std::clamp<int64_t>(first_seen(position) - begin_, 0, seen);
        float* scores = scores_.get() + q * kPositions;
        if (unseen == seen) {  // only other tokens of the group see it
            std::fill_n(scores, kPositions, 0.0f);
            return;
        }
        multiply_by(run_.key_scales, scores);
        std::fill_n(scores, unseen, -INFINITY);
        const auto at = static_cast<size_t>(q);
        set_.steps.weigh(scores, seen, width_, &largest_[at], &sum_[at], out_.get() + q * width_);
        std::fill_n(scores, unseen, 0.0f);
        std::fill(scores + seen, scores + kPositions, 0.0f);
        multiply_by(run_.value_scales, scores);
    }

    void multiply_by(const float* scales, float* row) const {
        for (int64_t p = 0; scales && p < count_; ++p) row[p] *= scales[run_.begin + p];
    }

    void add_values() {
        const int64_t even = count_ / 2 * 2;
        weigh_pairs();
        for (int64_t i = 0; i < width_; i += kColumns) {
            const int64_t first = i * run_.block_size + run_.begin * kTile;
            const Columns values = columns_at(run_.values, first, run_.block_size * kTile, (count_ + 3) / 4 * 4);
            for (int64_t q = 0; q < queries_; q += kTile)
                pairs_.multiply(weights_at(q), values.first, values.next, even, out_.get() + q * width_ + i, width_, true);
            if (even < count_) add_last({values.first + even * kTile, values.next}, i);
        }
    }

    // The last position, whose pair may not have been written yet.
    void add_last(const Columns& values, int64_t i) {
        uint16_t alone[2 * kColumns] = {};
        for (int64_t c = 0; c < kColumns; ++c) alone[2 * c] = values.first[c / kTile * values.next + c % kTile * 2];
        for (int64_t q = 0; q < queries_; q += kTile) {
            const char* weights = weights_at(q) + count_ / 2 * 2 * kTile * pairs_.x_bytes;
            pairs_.multiply(weights, alone, 2 * kTile, 2, out_.get() + q * width_ + i, width_, true);
        }
    }

    void weigh_pairs() {
        for (int64_t q = 0; q < queries_; q += kTile)
            pairs_.pair_inputs(scores_.get() + q * kPositions, kPositions, (count_ + 31) / 32 * 32, weights_at(q));
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
    const KeyValues cache_;
    int64_t row_, head_, first_, width_, group_, tokens_, queries_;
    KeyValueRun run_ = {};  // of positions that is worked on
    int64_t begin_ = 0, count_ = 0;
    std::unique_ptr<float[]> x_, weights_, scores_, out_, sum_, largest_;
    Aligned<uint16_t> columns_;  // of int8 keys or values in pairs
};

}  // namespace
}  // namespace zaya

void zaya_attend_prompt(int instruction_set, const ZayaLayer* layer, const ZayaPromptAttention* pass) {
    const zaya::InstructionSet& set = zaya::instruction_set_at(instruction_set);
    const zaya::KeyValues cache(*layer, pass->cache);
    zaya::parallel_rows(pass->threads, pass->batch * pass->columns, [&](int64_t token) {
        const int64_t row = token / pass->columns, column = token % pass->columns;
        for (int64_t head = 0; column < pass->lengths[row] && head < layer->key_heads; ++head) {
            const int64_t at = (token * layer->key_heads + head) * layer->head_dim;
            cache.append(pass->key + at, pass->value + at, cache.slot_of(row, pass->past[row] + column), head);
        }
    });
    const int64_t groups = (pass->columns + zaya::kTokens - 1) / zaya::kTokens;
    zaya::parallel_for(pass->threads, pass->batch * layer->key_heads * groups, [&](int64_t item) {
        const int64_t row = item / (layer->key_heads * groups), first = item / layer->key_heads % groups * zaya::kTokens;
        if (first < pass->lengths[row]) zaya::TokenGroup(set, *layer, *pass, row, item % layer->key_heads, first).run();
    });
}
