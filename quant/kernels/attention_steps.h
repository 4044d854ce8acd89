// Attention over a run of positions of the cache, written once for all instruction sets on float_lanes.h.
//
// Include after float_lanes.h. Keys and values lie as key_values.h says: in words of 32 bits, sixteen words of positions or
// of a head's numbers beside each other. V also provides
//
//   V::load_words(p)           kLanes words
//   V::shift_left(Int, bits)   of each word; shift_right extends the sign
//   V::upper_half(Int)         each word with its lower 16 bits zero
//   V::as_floats(Int)          the same bits

// Bytes that memory is asked for ahead of what is worked on: the processor by itself does not look far enough.
constexpr int64_t kFetchedAhead = 8192;

inline void fetch_ahead([[maybe_unused]] const void* at) {
#if defined(__GNUC__)  // clang too
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(at) + kFetchedAhead));  // maybe behind all that is ours
#endif
}

// The i-th number of each word.
template <class V, class KV>
typename V::Float number_of(typename V::Int words, int i) {
    if constexpr (sizeof(KV) == 4)
        return V::as_floats(words);
    else if constexpr (sizeof(KV) == 2)
        return V::as_floats(i ? V::upper_half(words) : V::shift_left(words, 16));
    else
        return V::to_float(V::shift_right(V::shift_left(words, 24 - 8 * i), 24));
}

// y (M, 16), rows y_stride apart, = or += x (M, k), rows x_stride apart, times sixteen columns [k / each][16][each] of which a
// word holds `each` numbers. Numbers at the same place of a word have a sum of their own.
template <class V, int M, class KV>
void multiply_words(const float* x, int64_t x_stride, const KV* columns, int64_t k, float* y, int64_t y_stride, bool adds) {
    constexpr int kEach = 4 / sizeof(KV);
    for (int lane = 0; lane < kTile; lane += V::kLanes) {
        typename V::Float total[M][kEach];
        for (int m = 0; m < M; ++m)
            for (int i = 0; i < kEach; ++i) total[m][i] = adds && i == 0 ? V::load(y + m * y_stride + lane) : V::splat(0.0f);
        for (int64_t c = 0; c < k; c += kEach) {
            const KV* line = columns + c * kTile;
            if (lane == 0) fetch_ahead(line);
            const typename V::Int words = V::load_words(line + lane * kEach);
#pragma GCC unroll 4
            for (int i = 0; i < kEach; ++i) {
                const typename V::Float numbers = number_of<V, KV>(words, i);
#pragma GCC unroll 4
                for (int m = 0; m < M; ++m) total[m][i] = V::multiply_add(numbers, V::splat(x[m * x_stride + c + i]), total[m][i]);
            }
        }
        for (int m = 0; m < M; ++m) {
            typename V::Float sum = total[m][0];
            for (int i = 1; i < kEach; ++i) sum = V::add(sum, total[m][i]);
            V::store(sum, y + m * y_stride + lane, V::kLanes);
        }
    }
}

// Folding the lanes takes as long as a dozen vectors of weights: most often there is nothing to find.
template <class V>
float largest_of(const float* x, int64_t n, float least) {
    Lanes<V> most = Lanes<V>::splat(least);
    for (int64_t i = 0; i < n; i += kTile) most = largest(Lanes<V>::load(x + i), most);
    if (!any_above(most, Lanes<V>::splat(least))) return least;
    float lanes[kTile];
    most.store(lanes);
    for (int half = kTile / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
    return lanes[0];
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
    if (most != *largest_score) {
        const L scale = exp<V>(L::splat(*largest_score - most));
        float factor[kTile];
        scale.store(factor);
        *total *= factor[0];
        for (int64_t i = 0; i < width; i += kTile) (L::load(out + i) * scale).store(out + i);
        *largest_score = most;
    }
    *total += sum(added);
}

inline void multiply_by(const float* scales, int64_t first, int64_t count, float* row) {
    for (int64_t p = 0; scales && p < count; ++p) row[p] *= scales[first + p];
}

// out (M, 16) += weights (M, positions) times sixteen columns of values. Of a word that is not full the rest is not read
// into anything, whatever it holds.
template <class V, int M, class KV>
void add_values(const float* weights, const KV* values, int64_t count, float* out, int64_t width) {
    constexpr int kEach = 4 / sizeof(KV);
    const int64_t whole = count / kEach * kEach;
    multiply_words<V, M>(weights, kMostPositions, values, whole, out, width, true);
    if (whole == count) return;
    KV rest[kTile * kEach] = {};
    for (int64_t i = 0; i < kTile; ++i) std::copy_n(values + whole * kTile + i * kEach, count - whole, rest + i * kEach);
    multiply_words<V, M>(weights + whole, kMostPositions, rest, kEach, out, width, true);
}

template <class V, int M, class KV>
void attend_some(const float* queries, int64_t width, const KeyValueRun& run, const AttentionState& state) {
    const int64_t hidden = run.begin % kTile, first = run.begin - hidden, count = run.end - first;
    const KV *keys = static_cast<const KV*>(run.keys) + first * width, *values = static_cast<const KV*>(run.values) + first * kTile;
    alignas(64) float scores[M * kMostPositions];
    for (int64_t p = 0; p < count; p += kTile) multiply_words<V, M>(queries, width, keys + p * width, width, scores + p, kMostPositions, false);
    for (int m = 0; m < M; ++m) {
        float* row = scores + m * kMostPositions;
        multiply_by(run.key_scales, first, count, row);
        std::fill_n(row, hidden, -INFINITY);
        weigh<V>(row, count, width, state.largest + m, state.sum + m, state.out + m * width);
        std::fill_n(row, hidden, 0.0f);
        multiply_by(run.value_scales, first, count, row);
    }
    for (int64_t i = 0; i < width; i += kTile) add_values<V, M>(scores, values + i * run.block_size, count, state.out + i, width);
}

template <class V, class KV>
void attend_as(const float* queries, int64_t count, int64_t width, const KeyValueRun& run, const AttentionState& state) {
    for (int64_t q = 0; q < count;) {
        const AttentionState own = {state.largest + q, state.sum + q, state.out + q * width};
        const bool four = q + 4 <= count;
        (four ? attend_some<V, 4, KV> : attend_some<V, 1, KV>)(queries + q * width, width, run, own);
        q += four ? 4 : 1;
    }
}

template <class V>
void attend(const float* queries, int64_t count, int64_t width, const KeyValueRun& run, const AttentionState& state) {
    switch (run.format) {
        case KeyValueFormat::float32: return attend_as<V, float>(queries, count, width, run, state);
        case KeyValueFormat::bf16: return attend_as<V, uint16_t>(queries, count, width, run, state);
        case KeyValueFormat::int8: return attend_as<V, int8_t>(queries, count, width, run, state);
    }
}
