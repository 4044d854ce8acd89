// Attention over a run of positions of the cache, written once for all instruction sets on float_lanes.h.
//
// Include after float_lanes.h. The keys and values of all heads of a position lie side by side, so a run is read in order
// whatever the number of heads: the processor follows that, where it does not follow one head among others.

// Brings the next run nearer while one is worked on, a little at a time. A run is too long for the first-level cache.
struct NextRun {
    static constexpr int kSecondLevel = 2;
    const char *keys, *values;
    int64_t bytes, lines;  // of each of both; lines of 64 bytes for each position worked on
    int64_t at = 0;

    void fetch(int64_t positions) {
#if defined(__GNUC__)  // clang too
        for (const int64_t end = at + 64 * lines * positions; at < end && at < bytes; at += 64) {
            __builtin_prefetch(keys + at, 0, kSecondLevel);
            __builtin_prefetch(values + at, 0, kSecondLevel);
        }
#endif
    }
};

// Products of M queries and P keys: sixteen lanes for each query and one of 16 positions, (M, 16, 16).
template <class V, int M, int P, class KV>
void multiply_keys(const float* queries, int64_t width, const KV* keys, int64_t stride, float* lanes) {
    using L = Lanes<V>;
    L total[P][M];
    for (auto& position : total)
        for (auto& one : position) one = L::splat(0.0f);
    for (int64_t i = 0; i < width; i += kTile) {
        L key[P];
        for (int p = 0; p < P; ++p) key[p] = L::load(keys + p * stride + i);
        for (int m = 0; m < M; ++m) {
            const L query = L::load(queries + m * width + i);
            for (int p = 0; p < P; ++p) total[p][m] = multiply_add(key[p], query, total[p][m]);
        }
    }
    for (int p = 0; p < P; ++p)
        for (int m = 0; m < M; ++m) total[p][m].store(lanes + (m * kTile + p) * kTile);
}

// Of one key head: M queries by the keys of a run, scores (M, kMostPositions).
template <class V, int M, class KV>
void score(const float* queries, int64_t width, const KV* keys, const KeyValueRun& run, NextRun& next, float* scores) {
    constexpr int kAtOnce = V::kLanes < kTile ? 1 : 4;  // as many as the registers hold
    alignas(64) float lanes[M * kTile * kTile] = {};
    for (int64_t begin = 0; begin < run.count; begin += kTile) {
        const int64_t count = run.count - begin < kTile ? run.count - begin : kTile;
        const KV* first = keys + begin * run.stride;
        int64_t p = 0;
        for (; p + kAtOnce <= count; p += kAtOnce, next.fetch(kAtOnce))
            multiply_keys<V, M, kAtOnce>(queries, width, first + p * run.stride, run.stride, lanes + p * kTile);
        for (; p < count; ++p, next.fetch(1)) multiply_keys<V, M, 1>(queries, width, first + p * run.stride, run.stride, lanes + p * kTile);
        for (int m = 0; m < M; ++m) fold_rows<V>(lanes + m * kTile * kTile, scores + m * kMostPositions + begin);
    }
}

template <class V>
float largest_of(const float* x, int64_t n, float least) {
    Lanes<V> most = Lanes<V>::splat(least);
    for (int64_t i = 0; i < n; i += kTile) most = largest(Lanes<V>::load(x + i), most);
    float lanes[kTile];
    most.store(lanes);
    for (float lane : lanes) least = lane > least ? lane : least;
    return least;
}

// See FloatSteps.
template <class V>
void weigh(float* scores, int64_t count, int64_t width, float* largest_score, float* total, float* out) {
    using L = Lanes<V>;
    const int64_t padded = (count + kTile - 1) / kTile * kTile;
    for (int64_t p = count; p < padded; ++p) scores[p] = -INFINITY;
    const float most = largest_of<V>(scores, padded, *largest_score);
    for (int64_t p = 0; p < padded; p += kTile) exp<V>(L::load(scores + p) - L::splat(most)).store(scores + p);
    for (int64_t p = count; p < padded; ++p) scores[p] = 0.0f;
    L added = L::splat(0.0f);
    for (int64_t p = 0; p < padded; p += kTile) added = added + L::load(scores + p);
    const L scale = exp<V>(L::splat(*largest_score - most));
    float factor[kTile];
    scale.store(factor);
    *total = *total * factor[0] + sum(added);
    if (factor[0] != 1.0f)
        for (int64_t i = 0; i < width; i += kTile) (L::load(out + i) * scale).store(out + i);
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

// out (M, width) += weights (M, positions) times the values of one head.
template <class V, int M, class KV>
void add_values(const float* weights, int64_t width, const KV* values, const KeyValueRun& run, float* out) {
    constexpr int kWide = V::kLanes < kTile ? 1 : 4;
    int64_t i = 0;
    for (; i + kWide * kTile <= width; i += kWide * kTile)
        add_columns<V, M, kWide>(weights, values + i, run.stride, run.count, out + i, width);
    for (; i < width; i += kTile) add_columns<V, M, 1>(weights, values + i, run.stride, run.count, out + i, width);
}

inline void multiply_by(const float* scales, int64_t stride, int64_t count, float* row) {
    for (int64_t p = 0; scales && p < count; ++p) row[p] *= scales[p * stride];
}

// M queries of one key head.
template <class V, int M, class KV>
void attend_some(const float* queries, int64_t width, const KeyValueRun& run, int64_t head, NextRun& next, const AttentionState& state) {
    alignas(64) float scores[M * kMostPositions];
    score<V, M>(queries, width, static_cast<const KV*>(run.keys) + head * width, run, next, scores);
    for (int m = 0; m < M; ++m) {
        float* row = scores + m * kMostPositions;
        multiply_by(run.key_scales ? run.key_scales + head : nullptr, run.scale_stride, run.count, row);
        weigh<V>(row, run.count, width, state.largest + m, state.sum + m, state.out + m * width);
        multiply_by(run.value_scales ? run.value_scales + head : nullptr, run.scale_stride, run.count, row);
    }
    add_values<V, M>(scores, width, static_cast<const KV*>(run.values) + head * width, run, state.out);
}

template <class V, class KV>
void attend_as(const float* queries, const AttentionHeads& heads, const KeyValueRun& run, const AttentionState& state) {
    const int64_t width = heads.width, group = heads.query / heads.key;
    const int64_t bytes = run.stride * static_cast<int64_t>(sizeof(KV));
    // Lines of a position by the groups of four heads that pass over it.
    const int64_t lines = (bytes / 64 * 4 + heads.query - 1) / heads.query;
    NextRun next = {static_cast<const char*>(run.next_keys), static_cast<const char*>(run.next_values), run.next_count * bytes, lines};
    for (int64_t h = 0; h < heads.query;) {
        const AttentionState own = {state.largest + h, state.sum + h, state.out + h * width};
        const bool four = h % group + 4 <= group;
        (four ? attend_some<V, 4, KV> : attend_some<V, 1, KV>)(queries + h * width, width, run, h / group, next, own);
        h += four ? 4 : 1;
    }
}

template <class V>
void attend(const float* queries, const AttentionHeads& heads, const KeyValueRun& run, const AttentionState& state) {
    switch (run.format) {
        case KeyValueFormat::float32: return attend_as<V, float>(queries, heads, run, state);
        case KeyValueFormat::bf16: return attend_as<V, uint16_t>(queries, heads, run, state);
        case KeyValueFormat::int8: return attend_as<V, int8_t>(queries, heads, run, state);
    }
}
