// PairProducts by AVX-512: pairs of the inner dimension of 16 columns in the lanes.
//
// Include inside an unnamed namespace, after Avx512.

// 16 rows of 16 pairs of bf16 -> 16 vectors of one pair of each row.
void transpose(__m512i (&rows)[16]) {
    __m512i pairs[16], quads[16];
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        quads[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        quads[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        quads[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        quads[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        const __m512i a = _mm512_shuffle_i32x4(quads[i], quads[i + 4], 0x88);
        const __m512i b = _mm512_shuffle_i32x4(quads[i + 8], quads[i + 12], 0x88);
        const __m512i c = _mm512_shuffle_i32x4(quads[i], quads[i + 4], 0xdd);
        const __m512i d = _mm512_shuffle_i32x4(quads[i + 8], quads[i + 12], 0xdd);
        rows[i] = _mm512_shuffle_i32x4(a, b, 0x88);
        rows[i + 8] = _mm512_shuffle_i32x4(a, b, 0xdd);
        rows[i + 4] = _mm512_shuffle_i32x4(c, d, 0x88);
        rows[i + 12] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
}

struct Bf16Pairs {
    using X = uint16_t;
    static void pair_x(const float* x, int64_t stride, int64_t k, X* pairs) {
        for (int64_t c = 0; c < k; c += 32) {
            __m512i block[kTile];
            for (int64_t r = 0; r < kTile; ++r) {
                const float* row = x + r * stride + c;
                block[r] = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + kTile), _mm512_loadu_ps(row)));
            }
            transpose(block);
            for (int64_t i = 0; i < kTile; ++i) _mm512_storeu_si512(pairs + (c / 2 + i) * 2 * kTile, block[i]);
        }
    }
    static __m512 multiply_add(__m512 total, __m512i pairs, const X* x) {
        int32_t two;
        std::memcpy(&two, x, 4);
        return _mm512_dpbf16_ps(total, reinterpret_cast<__m512bh>(pairs), reinterpret_cast<__m512bh>(_mm512_set1_epi32(two)));
    }
};

struct FloatPairs {
    using X = float;
    static void pair_x(const float* x, int64_t stride, int64_t k, X* pairs) {
        for (int64_t r = 0; r < kTile; ++r)
            for (int64_t c = 0; c < k; c += 2) std::memcpy(pairs + c * kTile + 2 * r, x + r * stride + c, 8);
    }
    static __m512 multiply_add(__m512 total, __m512i pairs, const X* x) {
        return _mm512_fmadd_ps(second_of(pairs), _mm512_set1_ps(x[1]), _mm512_fmadd_ps(first_of(pairs), _mm512_set1_ps(x[0]), total));
    }
};

// Codes are bf16 numbers: rounding would change nothing.
inline void widen(const int8_t* codes, int64_t k, uint16_t* pairs) {
    for (int64_t c = 0; c < k; c += 4, codes += 4 * kTile)
        for (int i = 0; i < 4; i += 2, pairs += 2 * kTile) {
            const __m512i words = _mm512_loadu_si512(codes);
            const __m512i first = _mm512_castps_si512(number_of<Avx512, int8_t>(words, i)), second = _mm512_castps_si512(number_of<Avx512, int8_t>(words, i + 1));
            _mm512_storeu_si512(pairs, _mm512_or_si512(_mm512_srli_epi32(first, 16), second));
        }
}

template <class Pairs>
void pair_x(const float* x, int64_t stride, int64_t k, void* pairs) {
    Pairs::pair_x(x, stride, k, static_cast<typename Pairs::X*>(pairs));
}

// Eight rows by two tiles of columns at a time: sixteen sums, and fewer loads than products.
template <class Pairs>
void multiply_pairs(const void* x, const uint16_t* columns, int64_t next, int64_t k, float* y, int64_t stride, bool adds) {
    constexpr int kRows = 8, kTiles = 2;
    for (int row = 0; row < kTile; row += kRows, y += kRows * stride) {
        const auto* values = static_cast<const typename Pairs::X*>(x) + 2 * row;
        __m512 total[kRows][kTiles];
        for (int m = 0; m < kRows; ++m)
            for (int t = 0; t < kTiles; ++t) total[m][t] = adds ? _mm512_loadu_ps(y + m * stride + t * kTile) : _mm512_setzero_ps();
        for (int64_t c = 0; c < k; c += 2, values += 2 * kTile) {
            const __m512i pairs[kTiles] = {_mm512_loadu_si512(columns + c * kTile), _mm512_loadu_si512(columns + next + c * kTile)};
            for (int m = 0; m < kRows; ++m)
                for (int t = 0; t < kTiles; ++t) total[m][t] = Pairs::multiply_add(total[m][t], pairs[t], values + 2 * m);
        }
        for (int m = 0; m < kRows; ++m)
            for (int t = 0; t < kTiles; ++t) _mm512_storeu_ps(y + m * stride + t * kTile, total[m][t]);
    }
}

template <class Pairs>
constexpr PairProducts kPairProducts = {sizeof(typename Pairs::X), pair_x<Pairs>, multiply_pairs<Pairs>, widen};
