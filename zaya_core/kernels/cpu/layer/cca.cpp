// Queries, keys and values of Compressed Convolutional Attention (zaya_core/model/cca.py has the same in torch).

#include <algorithm>
#include <cmath>

#include "quant/kernels/cpu/gemm/bits.h"
#include "quant/kernels/cpu/gemm/matmul.h"
#include "quant/kernels/cpu/gemm/panels.h"
#include "quant/kernels/cpu/parallel/aligned.h"
#include "quant/kernels/cpu/parallel/parallel.h"
#include "zaya_core/kernels/abi.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

namespace zaya {
namespace {

class Cca {
public:
    Cca(const Kernels& kernels, const ZayaLayer& layer, const ZayaCca& pass)
        : kernels_(kernels), layer_(layer), pass_(pass), rows_(pass.batch * pass.columns) {
        queries_ = layer.query_heads * layer.head_dim;
        keys_ = layer.key_heads * layer.head_dim;
        channels_ = queries_ + keys_;
        width_ = channels_ + keys_;
        tail_ = layer.depthwise_taps + layer.grouped_taps - 2;
    }

    void run() {
        project();
        replace_state();
        convolve();
        parallel_rows(pass_.threads, rows_, [&](int64_t row) { finish_heads(row); });
    }

private:
    // Values of the states, and back.
    void load(const void* from, int64_t begin, int64_t count, float* to) const {
        if (pass_.is_bf16)
            for (int64_t i = 0; i < count; ++i) to[i] = as_float(static_cast<const uint16_t*>(from)[begin + i]);
        else
            std::copy_n(static_cast<const float*>(from) + begin, count, to);
    }
    void store(const float* from, int64_t count, void* to, int64_t begin) const {
        if (pass_.is_bf16)
            std::transform(from, from + count, static_cast<uint16_t*>(to) + begin, to_bf16);
        else
            std::copy_n(from, count, static_cast<float*>(to) + begin);
    }

    // projected_ (N, queries | keys | current values | delayed values), rounded as the cache will be
    void project() {
        const int64_t d = layer_.hidden;
        const Aligned<float> normed = aligned<float>(rows_ * d);
        parallel_rows(pass_.threads, rows_, [&](int64_t row) {
            kernels_.steps.rms_norm(pass_.residual + row * d, layer_.input_norm, d, layer_.rms_norm_eps,
                                    normed.get() + row * d);
        });
        projected_ = aligned<float>(rows_ * width_);
        const Activations x(kernels_.products, static_cast<Format>(layer_.dense_format), {normed.get(), false, nullptr},
                            d, &rows_, 1, pass_.threads);
        const QuantMatrix matrices[] = {layer_.q, layer_.k, layer_.v_current, layer_.v_delayed};
        const int64_t widths[] = {queries_, keys_, keys_ / 2, keys_ / 2};
        Weights weights[4];
        Activations::Product products[4];
        float* y = projected_.get();
        for (int i = 0; i < 4; y += widths[i++]) {
            weights[i] = {matrices[i].codes, matrices[i].scales};
            products[i] = {&weights[i], widths[i], y, width_};
        }
        x.multiply(products, 4);
        if (layer_.qkv_bias || pass_.is_bf16)
            parallel_rows(pass_.threads, rows_,
                          [&](int64_t row) { add_bias_and_round(projected_.get() + row * width_); });
    }

    void add_bias_and_round(float* row) const {
        for (int64_t i = 0; layer_.qkv_bias && i < width_; ++i) row[i] += layer_.qkv_bias[i];
        for (int64_t i = 0; pass_.is_bf16 && i < width_; ++i) row[i] = as_float(to_bf16(row[i]));
    }

    const float* projected(int64_t batch, int64_t column) const {
        return projected_.get() + (batch * pass_.columns + column) * width_;
    }

    // The channels of a column, counted from the first of the tail.
    const float* column(int64_t batch, int64_t at) const {
        return at < tail_ ? tails_.get() + (batch * tail_ + at) * channels_ : projected(batch, at - tail_);
    }

    // Loads tails_ and delayed_, the state before this pass, and stores that after it.
    void replace_state() {
        const int64_t half = keys_ / 2, tail = tail_ * channels_;
        tails_ = aligned<float>(pass_.batch * tail);
        delayed_ = aligned<float>(pass_.batch * half);
        parallel_rows(pass_.threads, pass_.batch, [&](int64_t b) {
            load(pass_.tail, b * tail, tail, tails_.get() + b * tail);
            load(pass_.delayed, b * half, half, delayed_.get() + b * half);
            const int64_t real = pass_.lengths[b];
            for (int64_t t = 0; t < tail_; ++t)
                store(column(b, real + t), channels_, pass_.new_tail, (b * tail_ + t) * channels_);
            store(real ? projected(b, real - 1) + channels_ + half : delayed_.get() + b * half, half, pass_.new_delayed,
                  b * half);
        });
    }

    void depthwise(int64_t b, int64_t at, int64_t h, float* out) const {
        const int64_t k = layer_.head_dim;
        std::copy_n(layer_.depthwise_bias + h * k, k, out);
        for (int64_t tap = 0; tap < layer_.depthwise_taps; ++tap) {
            const float* weight = layer_.depthwise_weight + tap * channels_ + h * k;
            const float* x = column(b, at + tap) + h * k;
            for (int64_t c = 0; c < k; ++c) out[c] += x[c] * weight[c];
        }
    }

    // The depthwise convolution, as windows (count, grouped taps * K): what the convolution within a head reads for
    // each token.
    void im2col(int64_t h, int64_t first, int64_t count, float* windows) const {
        const int64_t k = layer_.head_dim, taps = layer_.grouped_taps;
        for (int64_t row = first; row < first + count; ++row) {
            const int64_t b = row / pass_.columns, t = row % pass_.columns;
            for (int64_t tap = 0; tap < taps; ++tap, windows += k) {
                if (row > first && t > 0 && tap + 1 < taps)  // what the token before has one tap later
                    std::copy_n(windows - (taps - 1) * k, k, windows);
                else
                    depthwise(b, t + tap, h, windows);
            }
        }
    }

    // convolved_ (N, C)
    void convolve() {
        const int64_t k = layer_.head_dim, taps = layer_.grouped_taps, tiles = k / kTile, heads = channels_ / k;
        const int64_t blocks = (rows_ + kPanelRows - 1) / kPanelRows;
        convolved_ = aligned<float>(rows_ * channels_);
        parallel_for(pass_.threads, heads * blocks, [&](int64_t item) {
            const int64_t h = item % heads, first = item / heads * kPanelRows,
                          count = std::min(kPanelRows, rows_ - first);
            const Aligned<float> windows = aligned<float>(count * taps * k);
            im2col(h, first, count, windows.get());
            for (int64_t tile = 0; tile < tiles; ++tile) {
                const int64_t channel = h * k + tile * kTile;
                float* y = convolved_.get() + first * channels_ + channel;
                kernels_.products.panel_gemm(windows.get(), count, taps * k, panel_at(layer_.grouped, channel / kTile),
                                             layer_.grouped.is_bf16 != 0, y, channels_);
                for (int64_t m = 0; m < count; ++m)
                    for (int64_t i = 0; i < kTile; ++i) y[m * channels_ + i] += layer_.grouped.bias[channel + i];
            }
        });
    }

    // Skip connection around the convolutions, QK norm and rotary of each head, and both halves of the value.
    void finish_heads(int64_t row) const {
        const int64_t k = layer_.head_dim, group = layer_.query_heads / layer_.key_heads, half = keys_ / 2;
        const float *x = projected_.get() + row * width_, *convolved = convolved_.get() + row * channels_;
        float *query = pass_.query + row * queries_, *key = pass_.key + row * keys_, *value = pass_.value + row * keys_;
        const float fraction = 1.0f / static_cast<float>(group);
        for (int64_t g = 0; g < layer_.key_heads; ++g) {
            const float* own = x + queries_ + g * k;
            float* total = key + g * k;
            std::fill_n(total, k, 0.0f);
            for (int64_t j = g * group * k; j < (g + 1) * group * k; j += k)
                for (int64_t i = 0; i < k; ++i) {
                    const float mean = (x[j + i] + own[i]) * 0.5f;
                    query[j + i] = convolved[j + i] + mean;
                    total[i] += mean;
                }
            for (int64_t i = 0; i < k; ++i) total[i] = convolved[queries_ + g * k + i] + total[i] * fraction;
        }
        for (int64_t h = 0; h < layer_.query_heads; ++h) normalise_and_rotate(row, query + h * k, layer_.head_scale[h]);
        for (int64_t g = 0; g < layer_.key_heads; ++g)
            normalise_and_rotate(row, key + g * k, layer_.head_scale[layer_.query_heads + g]);
        std::copy_n(x + channels_, half, value);
        const int64_t b = row / pass_.columns, t = row % pass_.columns;
        std::copy_n(t ? x + channels_ + half - width_ : delayed_.get() + b * half, half, value + half);
    }

    void normalise_and_rotate(int64_t row, float* head, float scale) const {
        const float length = std::sqrt(kernels_.steps.square_sum(head, layer_.head_dim));
        const float factor = scale / std::max(length, layer_.length_eps);
        for (int64_t i = 0; i < layer_.head_dim; ++i) head[i] *= factor;
        const float *cos = pass_.cos + row * pass_.rotated, *sin = pass_.sin + row * pass_.rotated;
        const int64_t half = pass_.rotated / 2;
        for (int64_t i = 0; i < half; ++i) {
            const float first = head[i], second = head[half + i];
            head[i] = first * cos[i] - second * sin[i];
            head[half + i] = second * cos[half + i] + first * sin[half + i];
        }
    }

    const Kernels kernels_;
    const ZayaLayer& layer_;
    const ZayaCca& pass_;
    int64_t rows_, queries_, keys_, channels_, width_, tail_;
    Aligned<float> projected_, tails_, delayed_, convolved_;
};

}  // namespace
}  // namespace zaya

void zaya_cca(int instruction_set, const ZayaLayer* layer, const ZayaCca* pass) {
    zaya::Cca(zaya::kernels_at(instruction_set), *layer, *pass).run();
}
