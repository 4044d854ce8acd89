// Attention over a run of positions of the cache, written once for all instruction sets on float_lanes.h.
//
// Include after float_lanes.h. Keys and values lie as key_values.h says: in words of 32 bits, sixteen words of positions or
// of a head's numbers beside each other. V also provides
//
//   V::load_words(p)           kLanes words
//   V::shift_left(Int, bits)   of each word; shift_right extends the sign
//   V::upper_half(Int)         each word with its lower 16 bits zero
//   V::as_floats(Int)          the same bits

constexpr int64_t kFetchedAhead = 8192;  // bytes, measured

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

// y (M, 16 * kTiles), rows y_stride apart, = or += x (M, k), rows x_stride apart, times tiles of sixteen columns, `next` numbers
// apart: [k / each][16][each], of which a word holds `each` numbers. The even and the odd numbers of words have sums of their own.
template <class V, int M, int kTiles, class KV>
void multiply_words(const float* x, int64_t x_stride, const KV* columns, int64_t next, int64_t k, float* y, int64_t y_stride, bool adds) {
    constexpr int kEach = 4 / sizeof(KV), kSums = kEach > 1 ? 2 : 1;
    for (int lane = 0; lane < kTile; lane += V::kLanes) {
        typename V::Float total[kTiles][M][kSums];
        for (int t = 0; t < kTiles; ++t)
            for (int m = 0; m < M; ++m)
                for (int i = 0; i < kSums; ++i) total[t][m][i] = adds && i == 0 ? V::load(y + m * y_stride + t * kTile + lane) : V::splat(0.0f);
        for (int64_t c = 0; c < k; c += kEach) {
            typename V::Int words[kTiles];
            for (int t = 0; t < kTiles; ++t) {
                const KV* line = columns + t * next + c * kTile;
                if (lane == 0) fetch(line, kFetchedAhead);
                words[t] = V::load_words(line + lane * kEach);
            }
#pragma GCC unroll 4
            for (int i = 0; i < kEach; ++i) {
                typename V::Float numbers[kTiles];
                for (int t = 0; t < kTiles; ++t) numbers[t] = number_of<V, KV>(words[t], i);
#pragma GCC unroll 4
                for (int m = 0; m < M; ++m) {
                    const typename V::Float own = V::splat(x[m * x_stride + c + i]);
                    for (int t = 0; t < kTiles; ++t) total[t][m][i % kSums] = V::multiply_add(numbers[t], own, total[t][m][i % kSums]);
                }
            }
        }
        for (int t = 0; t < kTiles; ++t)
            for (int m = 0; m < M; ++m) {
                const typename V::Float sum = kSums > 1 ? V::add(total[t][m][0], total[t][m][kSums - 1]) : total[t][m][0];
                V::store(sum, y + m * y_stride + t * kTile + lane, V::kLanes);
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

// Scores of one query to weights relative to the largest so far, zero up to a multiple of 16; brings the state to that scale.
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

// out (M, 16 * kTiles) += weights (M, positions) times tiles of values, `next` numbers apart. Of a word that is not full the
// rest is not read into anything, whatever it holds.
template <class V, int M, int kTiles, class KV>
void add_values(const float* weights, const KV* values, int64_t next, int64_t count, float* out, int64_t width) {
    constexpr int kEach = 4 / sizeof(KV);
    const int64_t whole = count / kEach * kEach;
    multiply_words<V, M, kTiles>(weights, kMostPositions, values, next, whole, out, width, true);
    if (whole == count) return;
    KV rest[kTiles * kTile * kEach] = {};
    for (int64_t i = 0; i < kTiles * kTile; ++i)
        std::copy_n(values + i / kTile * next + whole * kTile + i % kTile * kEach, count - whole, rest + i * kEach);
    multiply_words<V, M, kTiles>(weights + whole, kMostPositions, rest, kTile * kEach, kEach, out, width, true);
}

// They lie by themselves: too few for the processor to follow.
inline void fetch_scales(const KeyValueRun& run, int64_t first, int64_t count) {
    for (int64_t p = 0; run.key_scales && p < count; p += kTile) fetch(run.key_scales + first + p, 0), fetch(run.value_scales + first + p, 0);
}

template <class V, int M, class KV>
void attend_some(const float* queries, int64_t width, const KeyValueRun& run, const AttentionState& state) {
    const int64_t hidden = run.begin % kTile, first = run.begin - hidden, count = run.end - first;
    const KV *keys = static_cast<const KV*>(run.keys) + first * width, *values = static_cast<const KV*>(run.values) + first * kTile;
    // int8 numbers take more steps each, which hide that two tiles come from two places; and share a query's load.
    constexpr int kTiles = V::kLanes == kTile && sizeof(KV) == 1 ? 2 : 1;
    alignas(64) float scores[M * kMostPositions];
    fetch_scales(run, first, count);
    int64_t p = 0, i = 0;
    for (; p + (kTiles - 1) * kTile < count; p += kTiles * kTile)
        multiply_words<V, M, kTiles>(queries, width, keys + p * width, kTile * width, width, scores + p, kMostPositions, false);
    for (; p < count; p += kTile) multiply_words<V, M, 1>(queries, width, keys + p * width, 0, width, scores + p, kMostPositions, false);
    for (int m = 0; m < M; ++m) {
        float* row = scores + m * kMostPositions;
        multiply_by(run.key_scales, first, count, row);
        std::fill_n(row, hidden, -INFINITY);
        weigh<V>(row, count, width, state.largest + m, state.sum + m, state.out + m * width);
        std::fill_n(row, hidden, 0.0f);
        multiply_by(run.value_scales, first, count, row);
    }
    const int64_t next = kTile * run.block_size;
    for (; i + kTiles * kTile <= width; i += kTiles * kTile) add_values<V, M, kTiles>(scores, values + i * run.block_size, next, count, state.out + i, width);
    for (; i < width; i += kTile) add_values<V, M, 1>(scores, values + i * run.block_size, next, count, state.out + i, width);
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
