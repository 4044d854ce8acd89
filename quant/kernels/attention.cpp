// Attention of one new token a row over the blocks of the cache.

#include <algorithm>
#include <cmath>
#include <vector>

#include "aligned.h"
#include "instruction_set.h"
#include "key_values.h"
#include "layer.h"
#include "parallel.h"

namespace zaya {
namespace {

constexpr int64_t kSegment = 256;  // positions: long rows are shared among threads, always at the same places
constexpr int64_t kManyParts = 8;

class Attention {
public:
    Attention(const InstructionSet& set, const ZayaLayer& layer, const ZayaAttention& pass)
        : set_(set), layer_(layer), pass_(pass), cache_(layer, pass.cache) {}

    void run() {
        split();
        const int64_t heads = layer_.key_heads;
        parallel_for(pass_.threads, static_cast<int64_t>(parts_.size()) * heads,
                     [&](int64_t item) { attend(parts_[static_cast<size_t>(item / heads)], item % heads); });
        parallel_for(is_long() ? pass_.threads : 1, pass_.batch * heads, [&](int64_t item) { join(item / heads, item % heads); });
    }

private:
    // Some positions of one row, with the state of all heads in states_ at `state`.
    struct Part {
        int64_t row, begin, end, state;
    };

    // Whether joining is worth the start of a loop on several threads.
    bool is_long() const { return static_cast<int64_t>(parts_.size()) >= kManyParts || pass_.batch > kRowsAtOnce; }

    int64_t state_size() const { return layer_.query_heads * (layer_.head_dim + 2); }

    void split() {
        for (int64_t row = 0; row < pass_.batch; ++row)
            for (int64_t at = pass_.begin[row]; at < pass_.end[row]; at = (at / kSegment + 1) * kSegment)
                parts_.push_back({row, at, std::min((at / kSegment + 1) * kSegment, pass_.end[row]),
                                  static_cast<int64_t>(parts_.size()) * state_size()});
        states_ = aligned<float>(static_cast<int64_t>(parts_.size()) * state_size());
    }

    AttentionState state_of(const Part& part) {
        float* at = states_.get() + part.state;
        return {at, at + layer_.query_heads, at + 2 * layer_.query_heads};
    }

    // The queries of one key head. Who has the last part puts the new key and value into the cache, where they are read next.
    void attend(const Part& part, int64_t head) {
        const int64_t k = layer_.head_dim, group = layer_.query_heads / layer_.key_heads, first = head * group;
        const int64_t of_key = (part.row * layer_.key_heads + head) * k;
        if (part.end == pass_.end[part.row]) cache_.append(pass_.key + of_key, pass_.value + of_key, pass_.slots[part.row], head);
        const Aligned<float> queries = aligned<float>(group * k);
        const float factor = 1.0f / std::sqrt(static_cast<float>(k));
        const float* query = pass_.query + (part.row * layer_.query_heads + first) * k;
        for (int64_t i = 0; i < group * k; ++i) queries[static_cast<size_t>(i)] = query[i] * factor;
        const AttentionState all = state_of(part), state = {all.largest + first, all.sum + first, all.out + first * k};
        std::fill_n(state.largest, group, -INFINITY);
        std::fill_n(state.sum, group, 0.0f);
        std::fill_n(state.out, group * k, 0.0f);
        for (int64_t at = part.begin; at < part.end;) {
            const KeyValueRun run = cache_.run_at(part.row, head, at, part.end, kMostPositions);
            set_.steps.attend(queries.get(), group, k, run, state);
            at += run.end - run.begin;
        }
    }

    // The output of a row's queries of one key head from the row's parts, in their order.
    void join(int64_t row, int64_t head) {
        const auto is_own = [&](const Part& part) { return part.row == row; };
        const auto first = std::find_if(parts_.begin(), parts_.end(), is_own);
        const auto last = std::find_if_not(first, parts_.end(), is_own);
        const int64_t k = layer_.head_dim, group = layer_.query_heads / layer_.key_heads;
        for (int64_t q = head * group; q < (head + 1) * group; ++q) {
            float most = -INFINITY, total = 0.0f;
            for (auto part = first; part != last; ++part) most = std::max(most, state_of(*part).largest[q]);
            float* out = pass_.out + (row * layer_.query_heads + q) * k;
            std::fill_n(out, k, 0.0f);
            for (auto part = first; part != last; ++part) {
                const AttentionState state = state_of(*part);
                const float factor = std::exp(state.largest[q] - most);
                total += factor * state.sum[q];
                for (int64_t i = 0; i < k; ++i) out[i] += factor * state.out[q * k + i];
            }
            for (int64_t i = 0; i < k; ++i) out[i] /= total;
        }
    }

    const InstructionSet& set_;
    const ZayaLayer& layer_;
    const ZayaAttention& pass_;
    const KeyValues cache_;
    Aligned<float> states_;
    std::vector<Part> parts_;
};

}  // namespace
}  // namespace zaya

void zaya_attend(int instruction_set, const ZayaLayer* layer, const ZayaAttention* pass) {
    zaya::Attention(zaya::instruction_set_at(instruction_set), *layer, *pass).run();
}
