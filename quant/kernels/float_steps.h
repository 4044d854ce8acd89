// The steps of FloatSteps (instruction_set.h), written once for all instruction sets on float_lanes.h.

// Four sums at a time, so that additions do not wait for each other.
constexpr int kChains = 4;

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

template <class V, int M, class W>
void multiply_panel_rows(const float* x, int64_t k, const W* panel, float* y, int64_t stride) {
    using L = Lanes<V>;
    L chains[M][kChains];
    for (auto& row : chains)
        for (auto& chain : row) chain = L::splat(0.0f);
    for (int64_t i = 0; i < k; i += kChains)
        for (int c = 0; c < kChains; ++c) {
            const L weights = L::load(panel + (i + c) * kTile);
            for (int m = 0; m < M; ++m) chains[m][c] = multiply_add(weights, L::splat(x[m * k + i + c]), chains[m][c]);
        }
    for (int m = 0; m < M; ++m) fold(chains[m]).store(y + m * stride);
}

template <class V, class W>
void multiply_panel_as(const float* x, int64_t rows, int64_t k, const W* panel, float* y, int64_t stride) {
    constexpr int kRowsAtOnce = V::kLanes < kTile ? 1 : 4;  // as many as the registers hold
    int64_t row = 0;
    for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce)
        multiply_panel_rows<V, kRowsAtOnce>(x + row * k, k, panel, y + row * stride, stride);
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

// The sums of 16 rows of 16 lanes, each folded as `sum` does.
inline void fold_rows(const float* rows, float* sums) {
    float eight[8 * kTile], four[4 * kTile], two[2 * kTile];
    for (int r = 0; r < kTile; ++r)
        for (int i = 0; i < 8; ++i) eight[8 * r + i] = rows[kTile * r + i] + rows[kTile * r + 8 + i];
    for (int r = 0; r < kTile; ++r)
        for (int i = 0; i < 4; ++i) four[4 * r + i] = eight[8 * r + i] + eight[8 * r + 4 + i];
    for (int r = 0; r < kTile; ++r)
        for (int i = 0; i < 2; ++i) two[2 * r + i] = four[4 * r + i] + four[4 * r + 2 + i];
    for (int r = 0; r < kTile; ++r) sums[r] = two[2 * r] + two[2 * r + 1];
}

// Of one head at a position: its neighbours are other heads', so the processor does not see by itself what comes next.
template <class KV>
void fetch(const KV* head, int64_t width) {
#if defined(__GNUC__)  // clang too
    for (int64_t i = 0; i < width; i += static_cast<int64_t>(64 / sizeof(KV))) __builtin_prefetch(head + i);
#endif
}

constexpr int64_t kAheadPositions = 16;

// Queries of one group by the keys of a run, 16 positions at a time: scores (M, kMostPositions).
template <class V, int M, class KV>
void score(const float* queries, int64_t width, const KeyValueRun& run, float* scores) {
    using L = Lanes<V>;
    alignas(64) float lanes[M][kTile * kTile] = {};
    for (int64_t begin = 0; begin < run.count; begin += kTile) {
        const int64_t count = run.count - begin < kTile ? run.count - begin : kTile;
        for (int64_t p = 0; p < count; ++p) {
            const auto* key = static_cast<const KV*>(run.keys) + (begin + p) * run.stride;
            fetch(key + kAheadPositions * run.stride, width);
            fetch(static_cast<const KV*>(run.values) + (begin + p) * run.stride, width);
            L total[M];
            for (auto& one : total) one = L::splat(0.0f);
            for (int64_t i = 0; i < width; i += kTile) {
                const L values = L::load(key + i);
                for (int m = 0; m < M; ++m) total[m] = multiply_add(values, L::load(queries + m * width + i), total[m]);
            }
            for (int m = 0; m < M; ++m) total[m].store(lanes[m] + p * kTile);
        }
        for (int m = 0; m < M; ++m) fold_rows(lanes[m], scores + m * kMostPositions + begin);
    }
    for (int64_t p = 0; run.key_scales && p < run.count; ++p)
        for (int m = 0; m < M; ++m) scores[m * kMostPositions + p] *= run.key_scales[p * run.scale_stride];
}

// Turns scores into weights relative to the largest score so far, and brings the state to that scale.
template <class V>
void rescale(float* scores, int64_t count, int64_t width, float* largest_score, float* total, float* out) {
    using L = Lanes<V>;
    float most = *largest_score;
    for (int64_t p = 0; p < count; ++p) most = scores[p] > most ? scores[p] : most;
    for (int64_t p = count; p % kTile; ++p) scores[p] = -INFINITY;
    L added = L::splat(0.0f);
    for (int64_t p = 0; p < count; p += kTile) {
        float kept[kTile];
        exp<V>(L::load(scores + p) - L::splat(most)).store(kept);
        for (int64_t i = 0; i < kTile; ++i) scores[p + i] = p + i < count ? kept[i] : 0.0f;
        added = added + L::load(scores + p);
    }
    float scale[kTile];
    exp<V>(L::splat(*largest_score - most)).store(scale);
    *total = *total * scale[0] + sum(added);
    for (int64_t i = 0; i < width; ++i) out[i] *= scale[0];
    *largest_score = most;
}

// out (M, kTiles * 16 columns) += weights (M, positions) times the values, with the sums in registers.
template <class V, int M, int kTiles, class KV>
void add_columns(const float* weights, const KV* values, int64_t stride, int64_t count, float* out, int64_t width) {
    using L = Lanes<V>;
    L total[M][kTiles];
    for (int m = 0; m < M; ++m)
        for (int t = 0; t < kTiles; ++t) total[m][t] = L::load(out + m * width + t * kTile);
    for (int64_t p = 0; p < count; ++p)
        for (int t = 0; t < kTiles; ++t) {
            const L value = L::load(values + p * stride + t * kTile);
            for (int m = 0; m < M; ++m) total[m][t] = multiply_add(value, L::splat(weights[m * kMostPositions + p]), total[m][t]);
        }
    for (int m = 0; m < M; ++m)
        for (int t = 0; t < kTiles; ++t) total[m][t].store(out + m * width + t * kTile);
}

// out (M, width) += weights (M, positions) times the values.
template <class V, int M, class KV>
void add_values(const float* weights, int64_t width, const KeyValueRun& run, float* out) {
    constexpr int kWide = V::kLanes < kTile ? 1 : 4;
    const auto* values = static_cast<const KV*>(run.values);
    int64_t i = 0;
    for (; i + kWide * kTile <= width; i += kWide * kTile)
        add_columns<V, M, kWide>(weights, values + i, run.stride, run.count, out + i, width);
    for (; i < width; i += kTile) add_columns<V, M, 1>(weights, values + i, run.stride, run.count, out + i, width);
}

template <class V, int M, class KV>
void attend_some(const float* queries, int64_t width, const KeyValueRun& run, const AttentionState& state) {
    alignas(64) float scores[M * kMostPositions];
    score<V, M, KV>(queries, width, run, scores);
    for (int m = 0; m < M; ++m) {
        rescale<V>(scores + m * kMostPositions, run.count, width, state.largest + m, state.sum + m, state.out + m * width);
        for (int64_t p = 0; run.value_scales && p < run.count; ++p) scores[m * kMostPositions + p] *= run.value_scales[p * run.scale_stride];
    }
    add_values<V, M, KV>(scores, width, run, state.out);
}

template <class V, class KV>
void attend_as(const float* queries, int64_t heads, int64_t width, const KeyValueRun& run, const AttentionState& state) {
    int64_t h = 0;
    for (; h + 4 <= heads; h += 4)
        attend_some<V, 4, KV>(queries + h * width, width, run, {state.largest + h, state.sum + h, state.out + h * width});
    for (; h < heads; ++h)
        attend_some<V, 1, KV>(queries + h * width, width, run, {state.largest + h, state.sum + h, state.out + h * width});
}

template <class V>
void attend(const float* queries, int64_t heads, int64_t width, const KeyValueRun& run, const AttentionState& state) {
    switch (run.format) {
        case KeyValueFormat::float32: return attend_as<V, float>(queries, heads, width, run, state);
        case KeyValueFormat::bf16: return attend_as<V, uint16_t>(queries, heads, width, run, state);
        case KeyValueFormat::int8: return attend_as<V, int8_t>(queries, heads, width, run, state);
    }
}

template <class V>
constexpr FloatSteps float_steps() {
    return {rms_norm<V>, multiply_panel<V>, gate<V>, gelu<V>, square_sum<V>, exponentials<V>, attend<V>};
}
