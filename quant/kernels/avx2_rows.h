// Rows of bf16_rows.h by AVX2, in float32: x holds of each 32 columns the even ones, then the odd ones. Sums lie in sixteen
// lanes and are folded as AVX-512's, so that they have the same bits.
//
// Include inside an unnamed namespace, after bf16_rows.h.

struct Avx2Rows {
    using X = float;
    static constexpr int kRows = 3;  // 12 sums

    // 32 columns, of which half the lanes are the caller's.
    template <int M>
    static void multiply_add(const X* x, int64_t k, const uint16_t* w, int64_t stride, __m256 (&total)[M][kWeightRows]) {
        for (const bool is_odd : {false, true}) {
            __m256 row[M];
            for (int m = 0; m < M; ++m) row[m] = _mm256_loadu_ps(x + m * k + is_odd * kTile);
            for (int n = 0; n < kWeightRows; ++n) {
                const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + n * stride));
                const __m256i numbers = is_odd ? _mm256_and_si256(pairs, _mm256_set1_epi32(-65536)) : _mm256_slli_epi32(pairs, 16);
                for (int m = 0; m < M; ++m) total[m][n] = _mm256_fmadd_ps(_mm256_castsi256_ps(numbers), row[m], total[m][n]);
            }
        }
    }

    // In each half of the lanes the sums of that half of four vectors.
    static __m256 fold_lanes(const __m256 (&v)[kWeightRows]) {
        const __m256d a = _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1])));
        const __m256d b = _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3])));
        return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
    }

    template <int M, int kFetched>
    static void multiply_block(const X* x, int64_t k, const uint16_t* w, int64_t stride, const uint16_t* next, const OutputTile& out) {
        __m256 folded[2][M];
        for (int half = 0; half < 2; ++half) {
            __m256 total[M][kWeightRows];
            for (auto& row : total)
                for (auto& one : row) one = _mm256_setzero_ps();
            for (int64_t c = 0; c < k; c += 32) {
                if (half == 0) fetch_columns<kFetched>(next + c, k);
                multiply_add<M>(x + c + half * 8, k, w + c + half * 16, stride, total);
            }
            for (int m = 0; m < M; ++m) folded[half][m] = fold_lanes(total[m]);
        }
        for (int m = 0; m < M; ++m) {
            const __m256 halves = _mm256_add_ps(folded[0][m], folded[1][m]);
            alignas(16) float sums[kWeightRows];
            _mm_store_ps(sums, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
            std::copy_n(sums, std::min<int64_t>(out.valid, kWeightRows), out.y + m * out.stride);
        }
    }
};
