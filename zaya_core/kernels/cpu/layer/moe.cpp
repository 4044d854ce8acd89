// From the attention's output to the next layer's residual stream: merges, router and experts.

#include <algorithm>
#include <cmath>
#include <vector>

#include "quant/kernels/cpu/gemm/matmul.h"
#include "quant/kernels/cpu/gemm/panels.h"
#include "quant/kernels/cpu/parallel/aligned.h"
#include "quant/kernels/cpu/parallel/parallel.h"
#include "zaya_core/kernels/abi.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

namespace zaya {
namespace {

class Moe {
public:
    Moe(const Kernels& kernels, const ZayaLayer& layer, const ZayaMoe& pass)
        : kernels_(kernels), layer_(layer), pass_(pass), weight_(static_cast<size_t>(pass.rows)) {}

    void run() {
        merge_attention();
        route();
        sort_by_expert();
        experts();
    }

private:
    void merge(const ZayaMerge& by, const float* branch, float factor, int64_t row) const {
        const int64_t d = layer_.hidden;
        kernels_.steps.merge(branch, factor, by.branch_scale, by.residual_scale, by.constant, d,
                             pass_.residual + row * d);
    }

    void merge_attention() {
        const int64_t d = layer_.hidden;
        const Aligned<float> branch = aligned<float>(pass_.rows * d);
        const Activations x(kernels_.products, static_cast<Format>(layer_.dense_format),
                            {pass_.attention, pass_.attention_is_bf16 != 0, nullptr},
                            layer_.query_heads * layer_.head_dim, &pass_.rows, 1, pass_.threads);
        const Weights weights = {layer_.o.codes, layer_.o.scales};
        x.multiply(&weights, d, branch.get());
        normed_ = aligned<float>(pass_.rows * d);
        parallel_rows(pass_.threads, pass_.rows, [&](int64_t row) {
            float* own = branch.get() + row * d;
            for (int64_t i = 0; layer_.o_bias && i < d; ++i) own[i] += layer_.o_bias[i];
            merge(layer_.attention_merge, own, 1.0f, row);
            kernels_.steps.rms_norm(pass_.residual + row * d, layer_.post_attention_norm, d, layer_.rms_norm_eps,
                                    normed_.get() + row * d);
        });
    }

    void route() {
        const int64_t r = layer_.router_down.n, n = pass_.rows,
                      classes = (layer_.router_out.n + kTile - 1) / kTile * kTile;
        const Aligned<float> a = aligned<float>(n * r), b = aligned<float>(n * r), logits = aligned<float>(n * classes);
        const auto gelu = [&](float* y, int64_t, int64_t) { kernels_.steps.gelu(y, kTile); };
        panels_gemm(kernels_.products, layer_.router_down, normed_.get(), n, a.get(), r, pass_.threads,
                    [&](float* y, int64_t row, int64_t column) { add_state(y, row, column); });
        parallel_rows(pass_.threads, pass_.rows, [&](int64_t row) {
            kernels_.steps.rms_norm(a.get() + row * r, layer_.router_norm, r, layer_.rms_norm_eps, b.get() + row * r);
        });
        panels_gemm(kernels_.products, layer_.router_fc1, b.get(), n, a.get(), r, pass_.threads, gelu);
        panels_gemm(kernels_.products, layer_.router_fc2, a.get(), n, b.get(), r, pass_.threads, gelu);
        panels_gemm(kernels_.products, layer_.router_out, b.get(), n, logits.get(), classes, pass_.threads,
                    [](float*, int64_t, int64_t) {});
        parallel_rows(pass_.threads, pass_.rows, [&](int64_t row) { choose(row, logits.get() + row * classes); });
    }

    // y += the scaled state of the layer before, which becomes this one's.
    void add_state(float* y, int64_t row, int64_t column) const {
        float* state = pass_.state + row * layer_.router_down.n + column;
        for (int64_t i = 0; i < kTile; ++i) {
            if (layer_.router_states_scale && pass_.has_state)
                y[i] += state[i] * layer_.router_states_scale[column + i];
            state[i] = y[i];
        }
    }

    // argmax of softmax + bias, the first of equals; the weight is the softmax without the bias.
    void choose(int64_t row, float* logits) {
        const int64_t classes = layer_.experts + 1;
        const float most = *std::max_element(logits, logits + classes);
        float total = 0.0f;
        for (int64_t i = 0; i < classes; ++i) total += logits[i] = std::exp(logits[i] - most);
        int64_t best = 0;
        for (int64_t i = 0; i < classes; ++i) {
            logits[i] /= total;
            if (logits[i] + layer_.balancing_biases[i] > logits[best] + layer_.balancing_biases[best]) best = i;
        }
        pass_.choice[row] = best;
        weight_[static_cast<size_t>(row)] = logits[best];
    }

    // order_: the rows that have an expert, by expert; counts_ of the experts that have rows
    void sort_by_expert() {
        for (int64_t expert = 0; expert < layer_.experts; ++expert) {
            const size_t before = order_.size();
            for (int64_t row = 0; row < pass_.rows; ++row)
                if (pass_.choice[row] == expert) order_.push_back(row);
            if (order_.size() == before) continue;
            counts_.push_back(static_cast<int64_t>(order_.size() - before));
            gate_up_.push_back({layer_.gate_up[expert].codes, layer_.gate_up[expert].scales});
            down_.push_back({layer_.down[expert].codes, layer_.down[expert].scales});
        }
    }

    void experts() {
        const int64_t d = layer_.hidden, n = static_cast<int64_t>(order_.size());
        const Activations x(kernels_.products, static_cast<Format>(layer_.expert_format),
                            {normed_.get(), false, order_.data()}, d, counts_.data(),
                            static_cast<int64_t>(counts_.size()), pass_.threads);
        const Aligned<float> branch = aligned<float>(n * d);
        x.swiglu(gate_up_.data(), layer_.expert_width).multiply(down_.data(), d, branch.get());
        parallel_for(pass_.threads, n, [&](int64_t i) {
            const int64_t row = order_[static_cast<size_t>(i)];
            merge(layer_.mlp_merge, branch.get() + i * d, weight_[static_cast<size_t>(row)], row);
        });
        if (n < pass_.rows) parallel_rows(pass_.threads, pass_.rows, [&](int64_t row) { merge_skipped(row); });
    }

    void merge_skipped(int64_t row) const {
        if (pass_.choice[row] != layer_.experts) return;
        const float factor = layer_.skip_keeps_input ? weight_[static_cast<size_t>(row)] : 0.0f;
        merge(layer_.mlp_merge, normed_.get() + row * layer_.hidden, factor, row);
    }

    const Kernels kernels_;
    const ZayaLayer& layer_;
    const ZayaMoe& pass_;
    Aligned<float> normed_;
    std::vector<int64_t> order_, counts_;
    std::vector<float> weight_;
    std::vector<Weights> gate_up_, down_;
};

}  // namespace
}  // namespace zaya

void zaya_moe(int instruction_set, const ZayaLayer* layer, const ZayaMoe* pass) {
    zaya::Moe(zaya::kernels_at(instruction_set), *layer, *pass).run();
}
