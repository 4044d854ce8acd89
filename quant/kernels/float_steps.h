// The steps of FloatSteps (instruction_set.h), written once for all instruction sets on float_lanes.h.

// Four sums at a time, so that additions do not wait for each other.
constexpr int kChains = 4;

constexpr int64_t kPanelAhead = 4096;  // bytes of a panel's weights that are fetched ahead, measured
constexpr int64_t kPanelPiece = 256;   // columns of x, 8 KB of bf16 weights

template <class V>
Lanes<V> fold(const Lanes<V> (&chains)[kChains]) {
    return (chains[0] + chains[1]) + (chains[2] + chains[3]);
}

template <class V>
float square_sum(const float* x, int64_t n) {
    Lanes<V> chains[kChains];
    for (auto& chain : chains) chain = Lanes<V>::splat(0.0f);
    for (int64_t i = 0; i < n; i += kTile) {
        const Lanes<V> values = Lanes<V>::load(x + i);
        Lanes<V>& chain = chains[i / kTile % kChains];
        chain = multiply_add(values, values, chain);
    }
    return sum(fold(chains));
}

template <class V>
void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* out) {
    using L = Lanes<V>;
    const L scale = L::splat(1.0f / std::sqrt(square_sum<V>(x, n) / static_cast<float>(n) + eps));
    for (int64_t i = 0; i < n; i += kTile) (L::load(x + i) * scale * L::load(weight + i)).store(out + i);
}

// All chains of M rows at once, where the registers hold them.
template <class V, int M, class W>
void multiply_panel_rows(const float* x, int64_t k, const W* panel, float* y, int64_t stride) {
    using L = Lanes<V>;
    L chains[M][kChains];
    for (auto& row : chains)
        for (auto& chain : row) chain = L::splat(0.0f);
    for (int64_t i = 0; i < k; i += kChains)
        for (int c = 0; c < kChains; ++c) {
            if (c * kTile * sizeof(W) % 64 == 0) fetch(panel + (i + c) * kTile, kPanelAhead);
            const L weights = L::load(panel + (i + c) * kTile);
            for (int m = 0; m < M; ++m) chains[m][c] = multiply_add(weights, L::splat(x[m * k + i + c]), chains[m][c]);
        }
    for (int m = 0; m < M; ++m) fold(chains[m]).store(y + m * stride);
}

// The same sums where they do not: one chain after the other, for a piece of the panel that stays in the first-level cache.
template <class V, int M, class W>
void multiply_panel_chains(const float* x, int64_t k, const W* panel, float* y, int64_t stride) {
    using L = Lanes<V>;
    L chains[M][kChains];
    for (auto& row : chains)
        for (auto& chain : row) chain = L::splat(0.0f);
    for (int64_t begin = 0, end; begin < k; begin = end) {
        end = std::min(begin + kPanelPiece, k);
        for (int c = 0; c < kChains; ++c) {
            L sums[M];
            for (int m = 0; m < M; ++m) sums[m] = chains[m][c];
#pragma GCC unroll 4
            for (int64_t i = begin + c; i < end; i += kChains) {
                if (c * kTile * sizeof(W) % 64 == 0) fetch(panel + i * kTile, kPanelAhead);
                const L weights = L::load(panel + i * kTile);
                for (int m = 0; m < M; ++m) sums[m] = multiply_add(weights, L::splat(x[m * k + i]), sums[m]);
            }
            for (int m = 0; m < M; ++m) chains[m][c] = sums[m];
        }
    }
    for (int m = 0; m < M; ++m) fold(chains[m]).store(y + m * stride);
}

template <class V, class W>
void multiply_panel_as(const float* x, int64_t rows, int64_t k, const W* panel, float* y, int64_t stride) {
    constexpr int kRowsAtOnce = 4;
    int64_t row = 0;
    for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce)
        (V::kLanes < kTile ? multiply_panel_chains<V, kRowsAtOnce, W> : multiply_panel_rows<V, kRowsAtOnce, W>)(x + row * k, k, panel, y + row * stride, stride);
    for (; row < rows; ++row) multiply_panel_rows<V, 1>(x + row * k, k, panel, y + row * stride, stride);
}

template <class V>
void multiply_panel(const float* x, int64_t rows, int64_t k, const void* panel, bool is_bf16, float* y, int64_t stride) {
    if (is_bf16)
        multiply_panel_as<V>(x, rows, k, static_cast<const uint16_t*>(panel), y, stride);
    else
        multiply_panel_as<V>(x, rows, k, static_cast<const float*>(panel), y, stride);
}

template <class V>
void quantize(const float* x, int64_t groups, int64_t rows, int8_t* codes, float* scales, int32_t* sums) {
    for (int64_t g = 0; g < groups; ++g, x += kGroup) {
        const float largest = largest_absolute<V>(x, kGroup), inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
        int8_t rounded[kGroup];
        uint32_t sum = 0;
        for (int64_t i = 0; i < kGroup; ++i) {
            const uint32_t code = nearest_whole<V>(x[i] * inverse);
            rounded[i] = static_cast<int8_t>(code);
            sum += static_cast<uint32_t>(static_cast<int32_t>(rounded[i]));  // the code itself, whatever x was
        }
        for (int64_t i = 0; i < kGroup; i += 4) std::memcpy(codes + (g * kGroup + i) * rows, rounded + i, 4);
        scales[g * rows] = largest / 127.0f;
        if constexpr (V::kHasDots)
            sums[g * rows] = static_cast<int32_t>(sum);
        else
            sums[g * rows] = V::start_int4(rounded);
    }
}

template <class V>
void merge(const float* branch, float factor, const float* branch_scale, const float* residual_scale, const float* constant, int64_t n,
           float* residual) {
    using L = Lanes<V>;
    for (int64_t i = 0; i < n; i += kTile) {
        const L kept = L::load(residual + i) * L::load(residual_scale + i) + L::load(constant + i);
        (L::load(branch + i) * L::splat(factor) * L::load(branch_scale + i) + kept).store(residual + i);
    }
}

template <class V>
void gate(const float* gate, const float* up, int64_t n, float* out) {
    using L = Lanes<V>;
    const L one = L::splat(1.0f), zero = L::splat(0.0f);
    for (int64_t i = 0; i < n; i += kTile) {
        const L x = L::load(gate + i), positive = largest(x, zero);
        // e^-|x| cannot overflow: sigmoid(x) = e^min(x, 0) / (1 + e^-|x|).
        const L small = exp<V>(x - positive - positive), numerator = exp<V>(x - positive);
        (x * numerator / (one + small) * L::load(up + i)).store(out + i);
    }
}

template <class V>
void gelu(float* x, int64_t n) {
    using L = Lanes<V>;
    for (int64_t i = 0; i < n; i += kTile) {
        const L value = L::load(x + i), positive = largest(value, L::splat(0.0f));
        const L absolute = positive + positive - value;
        (positive - absolute * normal_tail<V>(value)).store(x + i);
    }
}

template <class V>
double exponentials(const float* x, int64_t n, float most, float temperature, float* out) {
    using L = Lanes<V>;
    L chains[kChains];
    for (auto& chain : chains) chain = L::splat(0.0f);
    int64_t i = 0;
    for (; i + kTile <= n; i += kTile) {
        const L value = exp<V>((L::load(x + i) - L::splat(most)) / L::splat(temperature));
        value.store(out + i);
        chains[i / kTile % kChains] = chains[i / kTile % kChains] + value;
    }
    double total = sum(fold(chains));
    for (; i < n; ++i) {
        float lanes[kTile];
        exp<V>((L::splat(x[i]) - L::splat(most)) / L::splat(temperature)).store(lanes);
        out[i] = lanes[0];
        total += lanes[0];
    }
    return total;
}

template <class V>
constexpr FloatSteps float_steps() {
    return {rms_norm<V>, multiply_panel<V>, quantize<V>, merge<V>, gate<V>, gelu<V>, square_sum<V>, exponentials<V>, attend<V>};
}
