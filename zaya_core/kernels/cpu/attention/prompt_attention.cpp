// Flash attention of a prompt over the paged K/V cache: queries of neighbouring tokens share what they read.

#include <algorithm>
#include <cmath>

#include "quant/kernels/cpu/parallel/aligned.h"
#include "quant/kernels/cpu/parallel/parallel.h"
#include "zaya_core/kernels/abi.h"
#include "zaya_core/kernels/cpu/attention/paged_cache.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

namespace zaya {
namespace {

constexpr int64_t kTokens = 32;          // new ones that are worked on together
constexpr int64_t kPositions = 128;      // that they see at a time, up to a multiple of it
constexpr int64_t kColumns = 2 * kTile;  // of a gemm

// A work item: some new tokens of one row, and the queries of one key head. Query q belongs to token q / group; they
// are padded with zeros to whole columns of a gemm.
class TokenGroup {
public:
    TokenGroup(const FlashPrompt& flash, const ZayaLayer& layer, const ZayaPromptAttention& pass, int64_t row,
               int64_t head, int64_t first)
        : flash_(flash),
          layer_(layer),
          pass_(pass),
          cache_(layer, pass.cache),
          row_(row),
          head_(head),
          first_(first),
          width_(layer.head_dim) {
        group_ = layer.query_heads / layer.key_heads;
        tokens_ = std::min(kTokens, pass.lengths[row] - first);
        queries_ = (tokens_ * group_ + kColumns - 1) / kColumns * kColumns;
        bytes_ = bytes_of(flash_.format);
        tiles_ = aligned<char>(queries_ * width_ * bytes_),
        exponentials_ = aligned<char>(kColumns * kPositions * bytes_);
        scores_ = aligned<float>(kPositions * kColumns), out_ = aligned<float>(queries_ * width_);
        sum_ = aligned<float>(queries_), max_ = aligned<float>(queries_);
        mask_begin_ = aligned<int32_t>(queries_), mask_end_ = aligned<int32_t>(queries_);
        if (cache_.format != flash_.format)
            converted_keys_ = aligned<char>(kPositions * width_ * bytes_),
            converted_values_ = aligned<char>(kPositions * width_ * bytes_);
    }

    void run() {
        begin();
        const int64_t last = position_of(tokens_ - 1), visible = first_visible(position_of(0));
        for (int64_t at = visible / kColumns * kColumns; at <= last; at += block_.end - block_.begin) {
            block_ = cache_.block_at(row_, head_, at, last + 1, kPositions);
            load_block();
            for (int64_t q = 0; q < queries_; q += kColumns) {
                score(q);
                for (int64_t tile = 0; tile < kColumns; tile += kTile) softmax(q, tile, at);
                add_values(q);
            }
        }
        store();
    }

private:
    int64_t position_of(int64_t token) const { return pass_.past[row_] + first_ + token; }
    int64_t first_visible(int64_t position) const {
        return pass_.window ? std::max<int64_t>(0, position + 1 - pass_.window) : 0;
    }
    // The queries of a token lie side by side.
    int64_t token_at(int64_t token) const {
        return ((row_ * pass_.columns + first_ + token) * layer_.query_heads + head_ * group_) * width_;
    }
    float* out_at(int64_t query) const { return out_.get() + query * width_; }

    void begin() {
        const float factor = 1.44269504f / std::sqrt(static_cast<float>(width_));  // scores are exponents of two
        std::fill(out_at(tokens_ * group_), out_at(queries_), 0.0f);
        for (int64_t token = 0; token < tokens_; ++token) {
            const float* from = pass_.query + token_at(token);
            float* to = out_at(token * group_);  // until they are in tiles
            for (int64_t i = 0; i < group_ * width_; ++i) to[i] = from[i] * factor;
        }
        for (int64_t q = 0; q < queries_; q += kTile)
            flash_.pack_tile(out_at(q), width_, width_, tiles_.get() + q * width_ * bytes_);
        std::fill_n(out_.get(), queries_ * width_, 0.0f);
        std::fill_n(sum_.get(), queries_, 0.0f);
        std::fill_n(max_.get(), queries_, kNoScore);
        for (int64_t q = 0; q < queries_; ++q) {
            const int64_t position = position_of(q / group_);
            mask_begin_[static_cast<size_t>(q)] = static_cast<int32_t>(first_visible(position));
            mask_end_[static_cast<size_t>(q)] = static_cast<int32_t>(position + 1);
        }
    }

    // Tiles of the block's keys, or values, so many bytes apart.
    struct Tiles {
        const char* first;
        int64_t next;
    };

    void load_block() {
        const int64_t count = block_.end - block_.begin;
        keys_ = tiles_of(block_.keys, block_.begin * width_, kTile * width_, (count + kTile - 1) / kTile, width_,
                         converted_keys_.get());
        values_ = tiles_of(block_.values, block_.begin * kTile, block_.block_size * kTile, width_ / kTile,
                           (count + 3) / 4 * 4, converted_values_.get());
    }

    // `count` tiles of k from number `first` on, `next` numbers apart.
    Tiles tiles_of(const void* storage, int64_t first, int64_t next, int64_t count, int64_t k, char* converted) const {
        const int64_t stored = bytes_of(cache_.format), bytes = kTile * k * bytes_;
        const char* from = static_cast<const char*>(storage) + first * stored;
        if (cache_.format == flash_.format) return {from, next * stored};
        for (int64_t tile = 0; tile < count; ++tile)
            flash_.convert_tile(cache_.format, from + tile * next * stored, k, converted + tile * bytes);
        return {converted, bytes};
    }

    // scores_ (positions, kColumns queries)
    void score(int64_t q) {
        const char* queries = tiles_.get() + q * width_ * bytes_;
        for (int64_t p = 0; p < block_.end - block_.begin; p += kTile)
            flash_.tile_gemm(keys_.first + p / kTile * keys_.next, queries, kTile * width_ * bytes_, width_,
                             scores_.get() + p * kColumns, kColumns, false);
    }

    void softmax(int64_t q, int64_t tile, int64_t at) {
        const int64_t query = q + tile;
        const AttentionMask mask = {mask_begin_.get() + query, mask_end_.get() + query, at};
        const SoftmaxState state = {max_.get() + query, sum_.get() + query, out_at(query)};
        flash_.softmax(scores_.get() + tile, kColumns, block_, mask, width_, state,
                       exponentials_.get() + tile * kPositions * bytes_);
    }

    void add_values(int64_t q) {
        for (int64_t i = 0; i < width_; i += kColumns)
            for (int64_t tile = 0; tile < kColumns; tile += kTile)
                flash_.tile_gemm(exponentials_.get() + tile * kPositions * bytes_,
                                 values_.first + i / kTile * values_.next, values_.next, block_.end - block_.begin,
                                 out_at(q + tile) + i, width_, true);
    }

    void store() const {
        for (int64_t q = 0; q < tokens_ * group_; ++q) {
            const float inverse = 1.0f / sum_[static_cast<size_t>(q)], *from = out_at(q);
            float* to = pass_.out + token_at(q / group_) + q % group_ * width_;
            for (int64_t i = 0; i < width_; ++i) to[i] = from[i] * inverse;
        }
    }

    const FlashPrompt& flash_;
    const ZayaLayer& layer_;
    const ZayaPromptAttention& pass_;
    const PagedCache cache_;
    int64_t row_, head_, first_, width_, group_, tokens_, queries_, bytes_;
    KvBlock block_ = {};  // that is worked on
    Tiles keys_ = {}, values_ = {};
    Aligned<char> tiles_, exponentials_, converted_keys_,
        converted_values_;  // tiles of FlashPrompt; of queries the first
    Aligned<float> scores_, out_, sum_, max_;
    Aligned<int32_t> mask_begin_, mask_end_;
};

}  // namespace
}  // namespace zaya

void zaya_prompt_attention(int instruction_set, const ZayaLayer* layer, const ZayaPromptAttention* pass) {
    const zaya::FlashPrompt& flash = *zaya::kernels_at(instruction_set).steps.prompt;
    const zaya::PagedCache cache(*layer, pass->cache);
    zaya::parallel_rows(pass->threads, pass->batch * pass->columns, [&](int64_t token) {
        const int64_t row = token / pass->columns, column = token % pass->columns;
        for (int64_t head = 0; column < pass->lengths[row] && head < layer->key_heads; ++head) {
            const int64_t at = (token * layer->key_heads + head) * layer->head_dim;
            cache.append(pass->key + at, pass->value + at, cache.slot_of(row, pass->past[row] + column), head);
        }
    });
    // By key head, so that threads begin at different heads; those that see the most positions first, to balance the
    // end.
    const int64_t groups = (pass->columns + zaya::kTokens - 1) / zaya::kTokens;
    zaya::parallel_for(pass->threads, pass->batch * layer->key_heads * groups, [&](int64_t item) {
        const int64_t row = item / groups / layer->key_heads, head = item / groups % layer->key_heads;
        const int64_t first = (groups - 1 - item % groups) * zaya::kTokens;
        if (first < pass->lengths[row]) zaya::TokenGroup(flash, *layer, *pass, row, head, first).run();
    });
}
