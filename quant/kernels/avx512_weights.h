// A prompt's scores to weights by AVX-512: positions one below the other, their queries in the lanes. No lanes are folded
// for the largest score and the sum, and two positions beside each other are a pair of the next product.
//
// Include inside an unnamed namespace, after avx512_pairs.h.

// 2^x for x <= 0, to 1.5e-7; zero for -inf.
inline __m512 power_of_two(__m512 x) {
    // Fitted by least squares on [0, 1] with the first at one, so that what has no larger score keeps its bits.
    static constexpr float kFit[] = {0.0018671302f, 0.0090170300f, 0.055799913f, 0.24016445f, 0.69315131f, 1.0f};
    const __m512 fraction = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 value = _mm512_set1_ps(kFit[0]);
    for (int i = 1; i < 6; ++i) value = _mm512_fmadd_ps(value, fraction, _mm512_set1_ps(kFit[i]));
    return _mm512_scalef_ps(value, x);  // which takes the whole part
}

inline __mmask16 who_sees(int64_t position, const PositionsSeen& seen) {
    const __m512i at = _mm512_set1_epi32(static_cast<int32_t>(position));
    return _mm512_cmple_epi32_mask(_mm512_loadu_si512(seen.begin), at) & _mm512_cmpgt_epi32_mask(_mm512_loadu_si512(seen.end), at);
}

// Most runs are seen by all sixteen.
inline void hide(float* scores, int64_t stride, int64_t count, const PositionsSeen& seen) {
    if ((who_sees(seen.first, seen) & who_sees(seen.first + count - 1, seen)) == 0xffff) return;
    for (int64_t p = 0; p < count; ++p, scores += stride)
        _mm512_storeu_ps(scores, _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), who_sees(seen.first + p, seen), _mm512_loadu_ps(scores)));
}

inline void scale_by(const float* scales, int64_t stride, int64_t count, float* scores) {
    for (int64_t p = 0; p < count; ++p, scores += stride) _mm512_storeu_ps(scores, _mm512_mul_ps(_mm512_loadu_ps(scores), _mm512_set1_ps(scales[p])));
}

inline __m512 largest_of(const float* scores, int64_t stride, int64_t count, __m512 least) {
    __m512 most[kChains];
    for (auto& chain : most) chain = least;
    int64_t p = 0;
    for (; p + kChains <= count; p += kChains)
        for (int c = 0; c < kChains; ++c, scores += stride) most[c] = _mm512_max_ps(_mm512_loadu_ps(scores), most[c]);
    for (; p < count; ++p, scores += stride) most[0] = _mm512_max_ps(_mm512_loadu_ps(scores), most[0]);
    return _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
}

// One position's weights, which the sum gets before the values' scale.
template <bool kScaled>
__m512 weights_of(const float* scores, __m512 most, const float* value_scales, int64_t position, __m512& sum) {
    const __m512 weights = power_of_two(_mm512_sub_ps(_mm512_loadu_ps(scores), most));
    sum = _mm512_add_ps(sum, weights);
    return kScaled ? _mm512_mul_ps(weights, _mm512_set1_ps(value_scales[position])) : weights;
}

// Returns the weights' sums.
template <class Pairs, bool kScaled>
__m512 store_weights(const float* scores, int64_t stride, int64_t count, __m512 most, const float* value_scales, typename Pairs::Number* tile) {
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    int64_t p = 0;
    for (; p + 2 <= count; p += 2, scores += 2 * stride, tile += 2 * kTile) {
        const __m512 first = weights_of<kScaled>(scores, most, value_scales, p, even);
        Pairs::store(first, weights_of<kScaled>(scores + stride, most, value_scales, p + 1, odd), tile);
    }
    if (p < count) Pairs::store(weights_of<kScaled>(scores, most, value_scales, p, even), _mm512_setzero_ps(), tile);
    return _mm512_add_ps(even, odd);
}

template <class Pairs>
void weigh_tile(float* scores, int64_t stride, const KeyValueRun& run, const PositionsSeen& seen, int64_t width, const AttentionState& state, void* tile) {
    const int64_t count = run.end - run.begin;
    auto* numbers = static_cast<typename Pairs::Number*>(tile);
    if (run.key_scales) scale_by(run.key_scales + run.begin, stride, count, scores);
    hide(scores, stride, count, seen);
    const __m512 before = _mm512_loadu_ps(state.largest), most = largest_of(scores, stride, count, before);
    const __m512 added = run.value_scales ? store_weights<Pairs, true>(scores, stride, count, most, run.value_scales + run.begin, numbers)
                                          : store_weights<Pairs, false>(scores, stride, count, most, nullptr, numbers);
    float factor[kTile];
    const __m512 scale = power_of_two(_mm512_sub_ps(before, most));
    _mm512_storeu_ps(factor, scale);
    _mm512_storeu_ps(state.largest, most);
    _mm512_storeu_ps(state.sum, _mm512_fmadd_ps(_mm512_loadu_ps(state.sum), scale, added));
    for (int q = 0; q < kTile; ++q)
        for (int64_t i = 0; factor[q] != 1.0f && i < width; i += kTile) {
            float* out = state.out + q * width + i;
            _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_loadu_ps(out), _mm512_set1_ps(factor[q])));
        }
}
