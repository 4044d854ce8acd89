// Rows of bf16_rows.h by AVX-512: the two ways to multiply 32 columns.
//
// Include inside an unnamed namespace, after bf16_rows.h.

struct Bf16Columns {
    using X = uint16_t;

    template <int M>
    static void multiply_add(const X* x, int64_t k, const uint16_t* w, int64_t stride, __m512 (&total)[M][kWeightRows]) {
        __m512bh weights[kWeightRows];
        for (int n = 0; n < kWeightRows; ++n) weights[n] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w + n * stride));
        for (int m = 0; m < M; ++m) {
            const auto row = reinterpret_cast<__m512bh>(_mm512_loadu_si512(x + m * k));
            for (int n = 0; n < kWeightRows; ++n) total[m][n] = _mm512_dpbf16_ps(total[m][n], weights[n], row);
        }
    }
};

// The same with x in float32: of each 32 columns the even ones, then the odd ones.
struct FloatColumns {
    using X = float;

    template <int M>
    static void multiply_add(const X* x, int64_t k, const uint16_t* w, int64_t stride, __m512 (&total)[M][kWeightRows]) {
        __m512 row[M];
        for (int m = 0; m < M; ++m) row[m] = _mm512_loadu_ps(x + m * k);
        for (int n = 0; n < kWeightRows; ++n) {
            const __m512 weights = first_of(_mm512_loadu_si512(w + n * stride));
            for (int m = 0; m < M; ++m) total[m][n] = _mm512_fmadd_ps(weights, row[m], total[m][n]);
        }
        for (int m = 0; m < M; ++m) row[m] = _mm512_loadu_ps(x + m * k + kTile);
        for (int n = 0; n < kWeightRows; ++n) {
            const __m512 weights = second_of(_mm512_loadu_si512(w + n * stride));
            for (int m = 0; m < M; ++m) total[m][n] = _mm512_fmadd_ps(weights, row[m], total[m][n]);
        }
    }
};

// In each quarter of the lanes the sums of that quarter of four vectors.
inline __m512 fold_lanes(const __m512 (&v)[kWeightRows]) {
    const __m512d a = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1])));
    const __m512d b = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3])));
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
}

template <int M>
void store_sums(const __m512 (&total)[M][kWeightRows], const OutputTile& out) {
    static_assert(kWeightRows == 4);
    __m512 row[4];
    for (int m = 0; m < 4; ++m) row[m] = fold_lanes(total[m < M ? m : 0]);
    const __m512 a = _mm512_add_ps(_mm512_shuffle_f32x4(row[0], row[1], 0x44), _mm512_shuffle_f32x4(row[0], row[1], 0xee));
    const __m512 b = _mm512_add_ps(_mm512_shuffle_f32x4(row[2], row[3], 0x44), _mm512_shuffle_f32x4(row[2], row[3], 0xee));
    alignas(64) float sums[4][kWeightRows];
    _mm512_store_ps(sums[0], _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd)));
    const auto mask = static_cast<__mmask8>(out.valid >= kWeightRows ? 15 : (1 << out.valid) - 1);
    for (int m = 0; m < M; ++m) _mm_mask_storeu_ps(out.y + m * out.stride, mask, _mm_load_ps(sums[m]));
}

template <class Columns>
struct Avx512Rows {
    using X = typename Columns::X;
    static constexpr int kRows = 4;  // 16 sums

    template <int M, int kFetched>
    static void multiply_block(const X* x, int64_t k, const uint16_t* w, int64_t stride, const uint16_t* next, const OutputTile& out) {
        __m512 total[M][kWeightRows];
        for (auto& row : total)
            for (auto& one : row) one = _mm512_setzero_ps();
        for (int64_t c = 0; c < k; c += 32) {
            fetch_columns<kFetched>(next + c, k);
            Columns::template multiply_add<M>(x + c, k, w + c, stride, total);
        }
        store_sums<M>(total, out);
    }
};
