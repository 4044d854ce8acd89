// Attention of one new token a row over the blocks of the cache.

#include <algorithm>
#include <cmath>
#include <vector>

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
        append();
        scale_queries();
        split();
        parallel_for(pass_.threads, static_cast<int64_t>(parts_.size()), [&](int64_t item) { attend(parts_[static_cast<size_t>(item)]); });
        for (int64_t row = 0; row < pass_.batch; ++row) join(row);
    }

private:
    // What one thread works out: some positions of one row, with its state in states_ at `state`.
    struct Part {
        int64_t row, begin, end, state;
    };

    void append() const {
        for (int64_t row = 0; row < pass_.batch; ++row) {
            append_row(pass_.key + row * width_, pass_.keys, pass_.key_scales, pass_.slots[row]);
            append_row(pass_.value + row * width_, pass_.values, pass_.value_scales, pass_.slots[row]);
        }
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
        const auto count = static_cast<size_t>(pass_.batch * layer_.query_heads * layer_.head_dim);
        const float factor = 1.0f / std::sqrt(static_cast<float>(layer_.head_dim));
        queries_.resize(count);
        for (size_t i = 0; i < count; ++i) queries_[i] = pass_.query[i] * factor;
    }

    int64_t state_size() const { return layer_.query_heads * (layer_.head_dim + 2); }

    void split() {
        for (int64_t row = 0; row < pass_.batch; ++row)
            for (int64_t at = pass_.begin[row]; at < pass_.end[row]; at = (at / kSegment + 1) * kSegment)
                parts_.push_back({row, at, std::min((at / kSegment + 1) * kSegment, pass_.end[row]),
                                  static_cast<int64_t>(parts_.size()) * state_size()});
        states_.resize(parts_.size() * static_cast<size_t>(state_size()));
    }

    AttentionState state_of(const Part& part) {
        float* at = states_.data() + part.state;
        return {at, at + layer_.query_heads, at + 2 * layer_.query_heads};
    }

    // Positions of a row from `at` on, at most to `end`, that lie side by side.
    KeyValueRun run_at(int64_t row, int64_t at, int64_t end) const {
        const int64_t step = run_length(pass_), head = slot_of(pass_, row, at) * layer_.key_heads;
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

    void attend(const Part& part) {
        const AttentionState state = state_of(part);
        std::fill_n(state.largest, layer_.query_heads, -INFINITY);
        std::fill_n(state.sum, layer_.query_heads * (layer_.head_dim + 1), 0.0f);
        const float* queries = queries_.data() + part.row * layer_.query_heads * layer_.head_dim;
        const AttentionHeads heads = {layer_.query_heads, layer_.key_heads, layer_.head_dim};
        const int64_t end = pass_.end[part.row];
        KeyValueRun run = run_at(part.row, part.begin, part.end);
        for (int64_t at = part.begin; at < part.end;) {
            at += run.count;
            // Behind the part, too: what comes next is most often this thread's own.
            const KeyValueRun next = at < end ? run_at(part.row, at, at < part.end ? part.end : end) : KeyValueRun{};
            run.next_keys = next.keys, run.next_values = next.values, run.next_count = next.count;
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
    std::vector<float> queries_, states_;
    std::vector<Part> parts_;
};

}  // namespace
}  // namespace zaya

void zaya_attend(int instruction_set, const ZayaLayer* layer, const ZayaAttention* pass) {
    zaya::Attention(zaya::instruction_set_at(instruction_set), *layer, *pass).run();
}
