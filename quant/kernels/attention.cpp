// Attention of one new token a row over the blocks of the cache.

#include <algorithm>
#include <cmath>
#include <vector>

#include "aligned.h"
#include "bits.h"
#include "block_tables.h"
#include "instruction_set.h"
#include "layer.h"
#include "parallel.h"

namespace zaya {
namespace {

constexpr int64_t kSegment = 256;  // positions: long rows are shared among threads, always at the same places

class Attention {
public:
    Attention(const InstructionSet& set, const ZayaLayer& layer, const ZayaAttention& pass) : set_(set), layer_(layer), pass_(pass) {
        width_ = layer.key_heads * layer.head_dim;
        format_ = static_cast<KeyValueFormat>(pass.format);
        bytes_ = format_ == KeyValueFormat::float32 ? 4 : format_ == KeyValueFormat::bf16 ? 2 : 1;
    }

    void run() {
        parallel_rows(pass_.threads, pass_.batch, [&](int64_t row) { append(row); });
        scale_queries();
        split();
        // One part for all heads reads memory in order, but few parts would leave threads with nothing to do.
        const auto parts = static_cast<int64_t>(parts_.size());
        const int64_t shares = pass_.threads > 1 && parts < 2 * pass_.threads ? layer_.key_heads : 1;
        parallel_for(pass_.threads, parts * shares, [&](int64_t item) { attend(parts_[static_cast<size_t>(item / shares)], item % shares, shares); });
        parallel_rows(pass_.threads, pass_.batch, [&](int64_t row) { join(row); });
    }

private:
    // Some positions of one row, with the state of all heads in states_ at `state`.
    struct Part {
        int64_t row, begin, end, state;
    };

    void append(int64_t row) const {
        append_row(pass_.key + row * width_, pass_.keys, pass_.key_scales, pass_.slots[row]);
        append_row(pass_.value + row * width_, pass_.values, pass_.value_scales, pass_.slots[row]);
    }

    void append_row(const float* from, void* to, float* scales, int64_t slot) const {
        const int64_t begin = slot * width_;
        switch (format_) {
            case KeyValueFormat::float32: std::copy_n(from, width_, static_cast<float*>(to) + begin); break;
            case KeyValueFormat::bf16: std::transform(from, from + width_, static_cast<uint16_t*>(to) + begin, to_bf16); break;
            case KeyValueFormat::int8:
                for (int64_t g = 0; g < layer_.key_heads; ++g)
                    scales[slot * layer_.key_heads + g] =
                        append_codes(from + g * layer_.head_dim, static_cast<int8_t*>(to) + begin + g * layer_.head_dim);
        }
    }

    // One head to the nearest codes; returns their scale.
    float append_codes(const float* from, int8_t* codes) const {
        float largest = 0.0f;
        for (int64_t i = 0; i < layer_.head_dim; ++i) largest = std::max(largest, std::fabs(from[i]));
        const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
        for (int64_t i = 0; i < layer_.head_dim; ++i) codes[i] = static_cast<int8_t>(std::nearbyint(from[i] * inverse));
        return largest / 127.0f;
    }

    void scale_queries() {
        const int64_t count = pass_.batch * layer_.query_heads * layer_.head_dim;
        const float factor = 1.0f / std::sqrt(static_cast<float>(layer_.head_dim));
        queries_ = aligned<float>(count);
        for (int64_t i = 0; i < count; ++i) queries_[i] = pass_.query[i] * factor;
    }

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

    // Positions of a row from `at` on, at most to `end`, that lie side by side, and the key heads from one on.
    KeyValueRun run_at(int64_t row, int64_t key_head, int64_t at, int64_t end) const {
        const int64_t step = run_length(pass_), head = slot_of(pass_, row, at) * layer_.key_heads + key_head;
        const int64_t bytes = head * layer_.head_dim * bytes_;
        const bool has_scales = format_ == KeyValueFormat::int8;
        return {format_,
                static_cast<const char*>(pass_.keys) + bytes,
                static_cast<const char*>(pass_.values) + bytes,
                width_,
                std::min((at / step + 1) * step, end) - at,
                has_scales ? pass_.key_scales + head : nullptr,
                has_scales ? pass_.value_scales + head : nullptr,
                layer_.key_heads};
    }

    // Of the heads, as many shares of key heads as are asked for, each with its queries.
    void attend(const Part& part, int64_t share, int64_t shares) {
        const AttentionHeads heads = {layer_.query_heads / shares, layer_.key_heads / shares, layer_.head_dim};
        const int64_t first = share * heads.query, width = heads.query * heads.width;
        const AttentionState all = state_of(part), state = {all.largest + first, all.sum + first, all.out + share * width};
        std::fill_n(state.largest, heads.query, -INFINITY);
        std::fill_n(state.sum, heads.query, 0.0f);
        std::fill_n(state.out, width, 0.0f);
        const float* queries = queries_.get() + (part.row * shares + share) * width;
        const int64_t end = pass_.end[part.row], key_head = share * heads.key;
        KeyValueRun run = run_at(part.row, key_head, part.begin, part.end);
        for (int64_t at = part.begin; at < part.end;) {
            at += run.count;
            // Behind the part, too: what comes next is most often this thread's own.
            const KeyValueRun next = at < end ? run_at(part.row, key_head, at, at < part.end ? part.end : end) : KeyValueRun{};
            if (shares == 1) run.next_keys = next.keys, run.next_values = next.values, run.next_count = next.count;
            set_.steps.attend(queries, heads, run, state);
            run = next;
        }
    }

    // The output of the queries of one row from its parts, in their order.
    void join(int64_t row) {
        const auto is_own = [&](const Part& part) { return part.row == row; };
        const auto first = std::find_if(parts_.begin(), parts_.end(), is_own);
        const auto last = std::find_if_not(first, parts_.end(), is_own);
        const int64_t k = layer_.head_dim;
        for (int64_t q = 0; q < layer_.query_heads; ++q) {
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
    int64_t width_, bytes_;
    KeyValueFormat format_;
    Aligned<float> queries_, states_;
    std::vector<Part> parts_;
};

}  // namespace
}  // namespace zaya

void zaya_attend(int instruction_set, const ZayaLayer* layer, const ZayaAttention* pass) {
    zaya::Attention(zaya::instruction_set_at(instruction_set), *layer, *pass).run();
}
