// Attention over a run of positions of the cache, written once for all instruction sets on float_lanes.h.
//
// Include after code_products.h. Keys and values lie as key_values.h says: in words of 32 bits, sixteen words of positions or
// of a head's numbers beside each other. V also provides
//
//   V::load_words(p)           kLanes words
//   V::upper_half(Int)         each word with its lower 16 bits zero
//   V::as_floats(Int)          the same bits

// The i-th number of each word.
template <class V, class KV>
typename V::Float number_of(typename V::Int words, int i) {
    if constexpr (sizeof(KV) == 4)
        return V::as_floats(words);
    else
        return V::as_floats(i ? V::upper_half(words) : V::shift_left(words, 16));
}

// y (M, 16), rows y_stride apart, = or += x (M, k), rows x_stride apart, times a tile of sixteen columns: [k / each][16][each], of
// which a word holds `each` numbers. The even and the odd numbers of words have sums of their own, one after the other where
// lanes are in several parts, which share what is loaded of x.
template <class V, int M, class KV>
void multiply_words(const float* x, int64_t x_stride, const KV* columns, int64_t k, float* y, int64_t y_stride, bool adds) {
    constexpr int kEach = 4 / sizeof(KV), kParts = kTile / V::kLanes, kSums = kParts == 1 ? kEach : 1;
#pragma GCC unroll 2
    for (int first = 0; first < kEach; first += kSums) {
        typename V::Float total[M][kParts][kSums];
        for (int m = 0; m < M; ++m)
            for (int p = 0; p < kParts; ++p)
                for (int i = 0; i < kSums; ++i) total[m][p][i] = adds && first + i == 0 ? V::load(y + m * y_stride + p * V::kLanes) : V::splat(0.0f);
#pragma GCC unroll 4
        for (int64_t c = 0; c < k; c += kEach) {
            const KV* line = columns + c * kTile;
            if (first == 0) fetch(line, kFetchedAhead);
            typename V::Int words[kParts];
            for (int p = 0; p < kParts; ++p) words[p] = V::load_words(line + p * V::kLanes * kEach);
#pragma GCC unroll 2
            for (int i = 0; i < kSums; ++i) {
                typename V::Float numbers[kParts];
                for (int p = 0; p < kParts; ++p) numbers[p] = number_of<V, KV>(words[p], first + i);
#pragma GCC unroll 4
                for (int m = 0; m < M; ++m)
                    for (int p = 0; p < kParts; ++p)
                        total[m][p][i] = V::multiply_add(numbers[p], V::splat(x[m * x_stride + c + first + i]), total[m][p][i]);
            }
        }
        for (int m = 0; m < M; ++m)
            for (int p = 0; p < kParts; ++p) {
                float* to = y + m * y_stride + p * V::kLanes;
                const typename V::Float sum = kSums > 1 ? V::add(total[m][p][0], total[m][p][kSums - 1]) : total[m][p][0];
                V::store(first > 0 ? V::add(V::load(to), sum) : sum, to, V::kLanes);
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

// scores (M, positions up to a multiple of 16) = queries (M, width) times tiles of keys
template <class V, int M, class KV>
void score_keys(const float* queries, int64_t width, const KV* keys, int64_t count, float* scores) {
    for (int64_t p = 0; p < count; p += kTile) multiply_words<V, M>(queries, width, keys + p * width, width, scores + p, kMostPositions, false);
}

template <class V, int M>
void score_keys(const float* queries, int64_t width, const int8_t* keys, int64_t count, float* scores) {
    CodeRows<M> rows;
    for (int64_t i = 0; i < width; i += kMostCodes, keys += kMostCodes * kTile) {
        round_to_codes<V>(queries + i, width, std::min(kMostCodes, width - i), rows);
        multiply_code_tiles<V>(rows, keys, kTile * width, (count + kTile - 1) / kTile, scores, kMostPositions, i > 0);
    }
}

// out (M, width) += weights (M, positions) times tiles of values, `next` numbers apart. Of a word that is not full the rest is
// not read into anything, whatever it holds.
template <class V, int M, class KV>
void add_values(const float* weights, const KV* values, int64_t next, int64_t count, float* out, int64_t width) {
    constexpr int kEach = 4 / sizeof(KV);
    const int64_t whole = count / kEach * kEach;
    for (int64_t i = 0; i < width; i += kTile, values += next) {
        multiply_words<V, M>(weights, kMostPositions, values, whole, out + i, width, true);
        if (whole == count) continue;
        KV rest[kTile * kEach] = {};
        for (int64_t lane = 0; lane < kTile; ++lane) std::copy_n(values + whole * kTile + lane * kEach, count - whole, rest + lane * kEach);
        multiply_words<V, M>(weights + whole, kMostPositions, rest, kEach, out + i, width, true);
    }
}

// Codes are finite whatever they are, and weights zero up to a multiple of 16.
static_assert(kMostPositions <= kMostCodes);
template <class V, int M>
void add_values(const float* weights, const int8_t* values, int64_t next, int64_t count, float* out, int64_t width) {
    CodeRows<M> rows;
    round_to_codes<V>(weights, kMostPositions, (count + 3) / 4 * 4, rows);
    multiply_code_tiles<V>(rows, values, next, width / kTile, out, width, true);
}

// They lie by themselves: too few for the processor to follow.
inline void fetch_scales(const KeyValueRun& run, int64_t first, int64_t count) {
    for (int64_t p = 0; run.key_scales && p < count; p += kTile) fetch(run.key_scales + first + p, 0), fetch(run.value_scales + first + p, 0);
}

template <class V, int M, class KV>
void attend_some(const float* queries, int64_t width, const KeyValueRun& run, const AttentionState& state) {
    const int64_t hidden = run.begin % kTile, first = run.begin - hidden, count = run.end - first;
    const KV *keys = static_cast<const KV*>(run.keys) + first * width, *values = static_cast<const KV*>(run.values) + first * kTile;
    alignas(64) float scores[M * kMostPositions];
    fetch_scales(run, first, count);
    score_keys<V, M>(queries, width, keys, count, scores);
    for (int m = 0; m < M; ++m) {
        float* row = scores + m * kMostPositions;
        multiply_by(run.key_scales, first, count, row);
        std::fill_n(row, hidden, -INFINITY);
        weigh<V>(row, count, width, state.largest + m, state.sum + m, state.out + m * width);
        std::fill_n(row, hidden, 0.0f);
        multiply_by(run.value_scales, first, count, row);
    }
    add_values<V, M>(scores, values, kTile * run.block_size, count, state.out, width);
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
