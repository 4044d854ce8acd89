// Products of rows by bf16 weights, by AVX-512: along the rows of both, so that weights are read as they lie.
//
// Include inside an unnamed namespace, after instruction_set.h.

constexpr int kBlock = 4;  // rows of x and of weights that are multiplied together: 16 sums in registers

// 32 columns at a time, x in bf16. Rows of x are k apart, those of weights `stride`.
struct Bf16Rows {
    using X = uint16_t;

    template <int M>
    static void multiply_add(const X* x, int64_t k, const uint16_t* w, int64_t stride, __m512 (&total)[M][kBlock]) {
        __m512bh weights[kBlock];
        for (int n = 0; n < kBlock; ++n) weights[n] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w + n * stride));
        for (int m = 0; m < M; ++m) {
            const auto row = reinterpret_cast<__m512bh>(_mm512_loadu_si512(x + m * k));
            for (int n = 0; n < kBlock; ++n) total[m][n] = _mm512_dpbf16_ps(total[m][n], weights[n], row);
        }
    }
};

// The same with x in float32: of each 32 columns the even ones, then the odd ones.
struct FloatRows {
    using X = float;

    template <int M>
    static void multiply_add(const X* x, int64_t k, const uint16_t* w, int64_t stride, __m512 (&total)[M][kBlock]) {
        __m512 row[M];
        for (int m = 0; m < M; ++m) row[m] = _mm512_loadu_ps(x + m * k);
        for (int n = 0; n < kBlock; ++n) {
            const __m512 weights = first_of(_mm512_loadu_si512(w + n * stride));
            for (int m = 0; m < M; ++m) total[m][n] = _mm512_fmadd_ps(weights, row[m], total[m][n]);
        }
        for (int m = 0; m < M; ++m) row[m] = _mm512_loadu_ps(x + m * k + kTile);
        for (int n = 0; n < kBlock; ++n) {
            const __m512 weights = second_of(_mm512_loadu_si512(w + n * stride));
            for (int m = 0; m < M; ++m) total[m][n] = _mm512_fmadd_ps(weights, row[m], total[m][n]);
        }
    }
};

// In each quarter of the lanes the sums of that quarter of four vectors.
inline __m512 fold_lanes(const __m512 (&v)[kBlock]) {
    const __m512d a = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1])));
    const __m512d b = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3])));
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
}

template <int M>
void store_sums(const __m512 (&total)[M][kBlock], const OutputTile& out) {
    __m512 row[kBlock];
    for (int m = 0; m < kBlock; ++m) row[m] = fold_lanes(total[m < M ? m : 0]);
    const __m512 a = _mm512_add_ps(_mm512_shuffle_f32x4(row[0], row[1], 0x44), _mm512_shuffle_f32x4(row[0], row[1], 0xee));
    const __m512 b = _mm512_add_ps(_mm512_shuffle_f32x4(row[2], row[3], 0x44), _mm512_shuffle_f32x4(row[2], row[3], 0xee));
    alignas(64) float sums[kBlock][kBlock];
    _mm512_store_ps(sums[0], _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd)));
    const auto mask = static_cast<__mmask8>(out.valid >= kBlock ? 15 : (1 << out.valid) - 1);
    for (int m = 0; m < M; ++m) _mm_mask_storeu_ps(out.y + m * out.stride, mask, _mm_load_ps(sums[m]));
}

// 32 columns of weights that are multiplied next, fetched meanwhile.
template <int kRows>
void fetch_columns(const uint16_t* w, int64_t k) {
    for (int row = 0; row < kRows; ++row) fetch_once(w + row * k, 0);
}

template <class Rows, int M, int kFetched>
void multiply_block(const typename Rows::X* x, int64_t k, const uint16_t* w, int64_t stride, const uint16_t* next, const OutputTile& out) {
    __m512 total[M][kBlock];
    for (auto& row : total)
        for (auto& one : row) one = _mm512_setzero_ps();
    for (int64_t c = 0; c < k; c += 32) {
        fetch_columns<kFetched>(next + c, k);
        Rows::template multiply_add<M>(x + c, k, w + c, stride, total);
    }
    store_sums<M>(total, out);
}

template <class Rows, int kFetched, int M = kBlock>
void multiply_some(const typename Rows::X* x, int64_t rows, int64_t k, const uint16_t* w, int64_t stride, const uint16_t* next, const OutputTile& out) {
    if (rows >= M)
        multiply_block<Rows, M, kFetched>(x, k, w, stride, next, out);
    else if constexpr (M > 1)
        multiply_some<Rows, kFetched, M - 1>(x, rows, k, w, stride, next, out);
}

// Four rows of weights, or one four times.
template <class Rows>
void multiply_weights(const RowsOfX& x, const uint16_t* w, int64_t stride, const OutputTile& out) {
    const auto* values = static_cast<const typename Rows::X*>(x.values);
    const uint16_t* next = w + kBlock * x.k;
    const bool is_short = x.rows < kBlock * kBlock;
    for (int64_t row = 0; row < x.rows; row += kBlock) {
        const OutputTile part = {out.y + row * out.stride, out.stride, out.valid};
        (is_short ? multiply_some<Rows, kBlock> : multiply_some<Rows, 1>)(
            values + row * x.k, x.rows - row, x.k, w, stride, is_short ? next : next + row / kBlock % kBlock * x.k, part);
    }
}

template <class Rows>
void multiply_bf16_tile(const RowsOfX& x, const uint16_t* w, const OutputTile& out) {
    for (int64_t n = 0; n < kTile && n < out.valid;) {
        const bool is_block = n + kBlock <= out.valid;
        multiply_weights<Rows>(x, w + n * x.k, is_block ? x.k : 0, {out.y + n, out.stride, is_block ? kBlock : 1});
        n += is_block ? kBlock : 1;
    }
}
