// Flash decoding: attention of one new token a row over the paged K/V cache, long rows split among threads (split-K).

#include <algorithm>
#include <cmath>
#include <vector>

#include "quant/kernels/cpu/parallel/aligned.h"
#include "quant/kernels/cpu/parallel/parallel.h"
#include "zaya_core/kernels/abi.h"
#include "zaya_core/kernels/cpu/attention/paged_cache.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

namespace zaya {
namespace {

constexpr int64_t kSplit = 256;  // positions, always at the same boundaries, so that bits do not depend on the threads
constexpr int64_t kManySplits = 8;

class DecodeAttention {
public:
    DecodeAttention(const Kernels& kernels, const ZayaLayer& layer, const ZayaDecodeAttention& pass)
        : kernels_(kernels), layer_(layer), pass_(pass), cache_(layer, pass.cache) {}

    void run() {
        split_rows();
        const int64_t heads = layer_.key_heads;
        parallel_for(pass_.threads, static_cast<int64_t>(splits_.size()) * heads,
                     [&](int64_t item) { attend(splits_[static_cast<size_t>(item / heads)], item % heads); });
        parallel_for(is_long() ? pass_.threads : 1, pass_.batch * heads,
                     [&](int64_t item) { combine(item / heads, item % heads); });
    }

private:
    // Some positions of one row, with the state of all heads in states_ at `state`.
    struct Split {
        int64_t row, begin, end, state;
    };

    // Whether combining is worth the start of a loop on several threads.
    bool is_long() const { return static_cast<int64_t>(splits_.size()) >= kManySplits || pass_.batch > kRowsAtOnce; }

    int64_t state_size() const { return layer_.query_heads * (layer_.head_dim + 2); }

    void split_rows() {
        for (int64_t row = 0; row < pass_.batch; ++row)
            for (int64_t at = pass_.begin[row]; at < pass_.end[row]; at = (at / kSplit + 1) * kSplit)
                splits_.push_back({row, at, std::min((at / kSplit + 1) * kSplit, pass_.end[row]),
                                   static_cast<int64_t>(splits_.size()) * state_size()});
        states_ = aligned<float>(static_cast<int64_t>(splits_.size()) * state_size());
    }

    SoftmaxState state_of(const Split& split) {
        float* at = states_.get() + split.state;
        return {at, at + layer_.query_heads, at + 2 * layer_.query_heads};
    }

    // The queries of one key head. The last split of a row first appends the new key and value to the cache.
    void attend(const Split& split, int64_t head) {
        const int64_t k = layer_.head_dim, group = layer_.query_heads / layer_.key_heads, first = head * group;
        const int64_t of_key = (split.row * layer_.key_heads + head) * k;
        if (split.end == pass_.end[split.row])
            cache_.append(pass_.key + of_key, pass_.value + of_key, pass_.slots[split.row], head);
        const Aligned<float> queries = aligned<float>(group * k);
        const float factor = 1.0f / std::sqrt(static_cast<float>(k));
        const float* query = pass_.query + (split.row * layer_.query_heads + first) * k;
        for (int64_t i = 0; i < group * k; ++i) queries[static_cast<size_t>(i)] = query[i] * factor;
        const SoftmaxState all = state_of(split), state = {all.max + first, all.sum + first, all.out + first * k};
        std::fill_n(state.max, group, -INFINITY);
        std::fill_n(state.sum, group, 0.0f);
        std::fill_n(state.out, group * k, 0.0f);
        for (int64_t at = split.begin; at < split.end;) {
            const KvBlock block = cache_.block_at(split.row, head, at, split.end, kMaxPositions);
            kernels_.steps.attend(queries.get(), group, k, block, state);
            at += block.end - block.begin;
        }
    }

    // The output of a row's queries of one key head from the row's splits, in their order.
    void combine(int64_t row, int64_t head) {
        const auto is_own = [&](const Split& split) { return split.row == row; };
        const auto first = std::find_if(splits_.begin(), splits_.end(), is_own);
        const auto last = std::find_if_not(first, splits_.end(), is_own);
        const int64_t k = layer_.head_dim, group = layer_.query_heads / layer_.key_heads;
        for (int64_t q = head * group; q < (head + 1) * group; ++q) {
            float most = -INFINITY, total = 0.0f;
            for (auto split = first; split != last; ++split) most = std::max(most, state_of(*split).max[q]);
            float* out = pass_.out + (row * layer_.query_heads + q) * k;
            std::fill_n(out, k, 0.0f);
            for (auto split = first; split != last; ++split) {
                const SoftmaxState state = state_of(*split);
                const float factor = std::exp(state.max[q] - most);
                total += factor * state.sum[q];
                for (int64_t i = 0; i < k; ++i) out[i] += factor * state.out[q * k + i];
            }
            for (int64_t i = 0; i < k; ++i) out[i] /= total;
        }
    }

    const Kernels kernels_;
    const ZayaLayer& layer_;
    const ZayaDecodeAttention& pass_;
    const PagedCache cache_;
    Aligned<float> states_;
    std::vector<Split> splits_;
};

}  // namespace
}  // namespace zaya

void zaya_decode_attention(int instruction_set, const ZayaLayer* layer, const ZayaDecodeAttention* pass) {
    zaya::DecodeAttention(zaya::kernels_at(instruction_set), *layer, *pass).run();
}
