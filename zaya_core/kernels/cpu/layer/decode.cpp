// The decode step: one new token a row through the whole model in one call. On small batches, what the caller would do
// between the layers costs more than they do.

#include "zaya_core/kernels/abi.h"

#include <cstddef>
#include <vector>

#include "quant/kernels/cpu/parallel/parallel.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

namespace zaya {
namespace {

class Decode {
public:
    Decode(int instruction_set, const ZayaDecode& pass) : instruction_set_(instruction_set), pass_(pass) {
        const ZayaLayer& layer = *pass.layer[0];
        const int64_t keys = layer.key_heads * layer.head_dim, queries = layer.query_heads * layer.head_dim;
        const int64_t tail = (layer.depthwise_taps + layer.grouped_taps - 2) * (queries + keys);
        const int64_t bytes = pass.is_bf16 ? 2 : 4;
        tail_bytes_ = pass.batch * tail * bytes;
        delayed_bytes_ = pass.batch * keys / 2 * bytes;
        const auto rows = static_cast<std::size_t>(pass.batch);
        lengths_.assign(rows, 1);
        residual_.resize(rows * static_cast<std::size_t>(layer.hidden));
        query_.resize(rows * static_cast<std::size_t>(queries));
        attended_.resize(query_.size());
        key_.resize(rows * static_cast<std::size_t>(keys));
        value_.resize(key_.size());
        router_state_.resize(rows * static_cast<std::size_t>(layer.router_down.n));
    }

    // Whether all ids are rows of the embedding.
    bool run() {
        int is_known = 0;
        with_team(pass_.threads, [&] {
            is_known = zaya_embed(pass_.embedding, pass_.threads, pass_.batch, pass_.ids, residual_.data());
            if (!is_known) return;
            for (int64_t i = 0; i < pass_.layers; ++i) {
                cca(i);
                attend(i);
                moe(i);
            }
            zaya_logits(instruction_set_, pass_.head, pass_.threads, pass_.batch, residual_.data(), pass_.logits);
        });
        return is_known;
    }

private:
    const ZayaAttentionKind& kind_of(int64_t i) const { return pass_.kinds[pass_.kind[i]]; }

    // cos_ and sin_ of each row's new position
    void look_up_angles(const ZayaAttentionKind& kind) {
        cos_.clear(), sin_.clear();
        for (int64_t row = 0; row < pass_.batch; ++row) {
            const int64_t at = (pass_.end[row] - 1) * kind.rotated;
            cos_.insert(cos_.end(), kind.cos + at, kind.cos + at + kind.rotated);
            sin_.insert(sin_.end(), kind.sin + at, kind.sin + at + kind.rotated);
        }
    }

    void cca(int64_t i) {
        const ZayaAttentionKind& kind = kind_of(i);
        look_up_angles(kind);
        const auto at = [i](const void* states, int64_t bytes) { return static_cast<const char*>(states) + i * bytes; };
        const auto new_at = [i](void* states, int64_t bytes) { return static_cast<char*>(states) + i * bytes; };
        const ZayaCca pass = {pass_.threads,
                              pass_.is_bf16,
                              pass_.batch,
                              1,
                              lengths_.data(),
                              residual_.data(),
                              at(pass_.tails, tail_bytes_),
                              at(pass_.delayed, delayed_bytes_),
                              new_at(pass_.new_tails, tail_bytes_),
                              new_at(pass_.new_delayed, delayed_bytes_),
                              kind.rotated,
                              cos_.data(),
                              sin_.data(),
                              query_.data(),
                              key_.data(),
                              value_.data()};
        zaya_cca(instruction_set_, pass_.layer[i], &pass);
    }

    void attend(int64_t i) {
        void* const* storage = pass_.storage + i;
        const bool has_scales = static_cast<KvFormat>(pass_.format) == KvFormat::int8;
        const ZayaPagedCache cache = {pass_.format,
                                      storage[0],
                                      storage[pass_.layers],
                                      has_scales ? static_cast<float*>(storage[2 * pass_.layers]) : nullptr,
                                      has_scales ? static_cast<float*>(storage[3 * pass_.layers]) : nullptr,
                                      pass_.block_size,
                                      pass_.most_blocks,
                                      pass_.tables};
        const ZayaDecodeAttention pass = {pass_.threads, pass_.batch, query_.data(),    key_.data(), value_.data(),
                                          cache,         pass_.slots, kind_of(i).begin, pass_.end,   attended_.data()};
        zaya_decode_attention(instruction_set_, pass_.layer[i], &pass);
    }

    void moe(int64_t i) {
        const ZayaMoe pass = {pass_.threads,
                              0,
                              i > 0,
                              pass_.batch,
                              attended_.data(),
                              residual_.data(),
                              router_state_.data(),
                              pass_.choices + i * pass_.batch};
        zaya_moe(instruction_set_, pass_.layer[i], &pass);
    }

    int instruction_set_;
    const ZayaDecode& pass_;
    int64_t tail_bytes_, delayed_bytes_;
    std::vector<int64_t> lengths_;
    std::vector<float> cos_, sin_, residual_, query_, key_, value_, attended_, router_state_;
};

}  // namespace
}  // namespace zaya

int zaya_decode(int instruction_set, const ZayaDecode* pass) { return zaya::Decode(instruction_set, *pass).run(); }
