// Attention of one new token a row over the blocks of the cache.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "instruction_set.h"
#include "layer.h"
#include "matmul.h"
#include "parallel.h"

namespace zaya {
namespace {

constexpr int64_t kSegment = 1024;  // positions: long rows are shared among threads, always at the same places

class Attention {
public:
    Attention(const InstructionSet& set, const ZayaLayer& layer, const ZayaAttention& pass) : set_(set), layer_(layer), pass_(pass) {
        width_ = layer.key_heads * layer.head_dim;
        group_ = layer.query_heads / layer.key_heads;
        bytes_ = pass.is_bf16 ? 2 : 4;
    }

    void run() {
        append();
        scale_queries();
        split();
        parallel_for(pass_.threads, static_cast<int64_t>(parts_.size()), [&](int64_t item) { attend(parts_[static_cast<size_t>(item)]); });
        for (int64_t head = 0; head < pass_.batch * layer_.key_heads; ++head) join(head);
    }

private:
    // What one thread works out: some positions of one row and key head, with its state in buffers_ at `state`.
    struct Part {
        int64_t row, head, begin, end, state;
    };

    void append() const {
        for (int64_t row = 0; row < pass_.batch; ++row)
            for (int64_t i = 0; i < width_; ++i) {
                const int64_t to = pass_.slots[row] * width_ + i, from = row * width_ + i;
                if (pass_.is_bf16) {
                    static_cast<uint16_t*>(pass_.keys)[to] = to_bf16(pass_.key[from]);
                    static_cast<uint16_t*>(pass_.values)[to] = to_bf16(pass_.value[from]);
                } else {
                    static_cast<float*>(pass_.keys)[to] = pass_.key[from];
                    static_cast<float*>(pass_.values)[to] = pass_.value[from];
                }
            }
    }

    void scale_queries() {
        const auto count = static_cast<size_t>(pass_.batch * layer_.query_heads * layer_.head_dim);
        const float factor = 1.0f / std::sqrt(static_cast<float>(layer_.head_dim));
        queries_.resize(count);
        for (size_t i = 0; i < count; ++i) queries_[i] = pass_.query[i] * factor;
    }

    int64_t state_size() const { return group_ * (layer_.head_dim + 2); }

    void split() {
        for (int64_t row = 0; row < pass_.batch; ++row)
            for (int64_t head = 0; head < layer_.key_heads; ++head)
                for (int64_t at = pass_.begin[row]; at < pass_.end[row]; at = (at / kSegment + 1) * kSegment)
                    parts_.push_back({row, head, at, std::min((at / kSegment + 1) * kSegment, pass_.end[row]),
                                      static_cast<int64_t>(parts_.size()) * state_size()});
        states_.resize(parts_.size() * static_cast<size_t>(state_size()));
    }

    AttentionState state_of(const Part& part) {
        float* at = states_.data() + part.state;
        return {at, at + group_, at + 2 * group_};
    }

    void attend(const Part& part) {
        const AttentionState state = state_of(part);
        std::fill_n(state.largest, group_, -INFINITY);
        std::fill_n(state.sum, group_ * (layer_.head_dim + 1), 0.0f);
        const float* queries = queries_.data() + (part.row * layer_.query_heads + part.head * group_) * layer_.head_dim;
        const int64_t step = std::min(pass_.block_size, kMostPositions);
        for (int64_t at = part.begin, next; at < part.end; at = next) {
            next = std::min((at / step + 1) * step, part.end);
            const int64_t block = pass_.tables[part.row * pass_.most_blocks + at / pass_.block_size];
            const int64_t place = ((block * pass_.block_size + at % pass_.block_size) * layer_.key_heads + part.head) * layer_.head_dim;
            const KeyValueRun run = {static_cast<const char*>(pass_.keys) + place * bytes_,
                                     static_cast<const char*>(pass_.values) + place * bytes_, width_, next - at};
            set_.steps.attend(queries, group_, layer_.head_dim, run, pass_.is_bf16 != 0, state);
        }
    }

    // The output of the queries of one key head from its parts, in their order.
    void join(int64_t head) {
        const auto is_own = [&](const Part& part) { return part.row * layer_.key_heads + part.head == head; };
        const auto first = std::find_if(parts_.begin(), parts_.end(), is_own);
        const auto last = std::find_if_not(first, parts_.end(), is_own);
        const int64_t k = layer_.head_dim;
        for (int64_t q = 0; q < group_; ++q) {
            float most = -INFINITY, total = 0.0f;
            for (auto part = first; part != last; ++part) most = std::max(most, state_of(*part).largest[q]);
            float* out = pass_.out + (head * group_ + q) * k;
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
    int64_t width_, group_, bytes_;
    std::vector<float> queries_, states_;
    std::vector<Part> parts_;
};

}  // namespace
}  // namespace zaya

void zaya_attend(int instruction_set, const ZayaLayer* layer, const ZayaAttention* pass) {
    zaya::Attention(zaya::instruction_set_at(instruction_set), *layer, *pass).run();
}
