// The products of PromptSteps by AVX-512: sixteen columns in the lanes.
//
// Include inside an unnamed namespace, after Avx512.

// 16 rows of 16 words -> 16 vectors of one word of each row.
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

// What differs between the numbers that are multiplied: how a tile holds them, and the product of a pair of 16 columns by
// that of row m.

struct Bf16Pairs {
    static constexpr KeyValueFormat kFormat = KeyValueFormat::bf16;
    using Number = uint16_t;
    using Pair = __m512i;

    static __m512i load_words(const float* row) { return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + kTile), _mm512_loadu_ps(row))); }
    static Pair load(const Number* pair) { return _mm512_loadu_si512(pair); }
    static Pair first_alone(Pair pair) { return _mm512_and_si512(pair, _mm512_set1_epi32(0xffff)); }
    static __m512 multiply_add(__m512 total, Pair pair, const Number* rows, int m) {
        int32_t two;
        std::memcpy(&two, rows + 2 * m, 4);
        return _mm512_dpbf16_ps(total, reinterpret_cast<__m512bh>(pair), reinterpret_cast<__m512bh>(_mm512_set1_epi32(two)));
    }
    static void store(__m512 first, __m512 second, Number* pair) {
        const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        _mm512_storeu_si512(pair, _mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first))));
    }
};

struct FloatPairs {
    static constexpr KeyValueFormat kFormat = KeyValueFormat::float32;
    using Number = float;
    struct Pair {
        __m512 first, second;
    };

    static __m512i load_words(const float* row) { return _mm512_loadu_si512(row); }
    static Pair load(const Number* pair) { return {_mm512_loadu_ps(pair), _mm512_loadu_ps(pair + kTile)}; }
    static Pair first_alone(Pair pair) { return {pair.first, _mm512_setzero_ps()}; }
    static __m512 multiply_add(__m512 total, Pair pair, const Number* rows, int m) {
        return _mm512_fmadd_ps(pair.second, _mm512_set1_ps(rows[kTile + m]), _mm512_fmadd_ps(pair.first, _mm512_set1_ps(rows[m]), total));
    }
    static void store(__m512 first, __m512 second, Number* pair) { _mm512_storeu_ps(pair, first), _mm512_storeu_ps(pair + kTile, second); }
};

template <class Pairs>
void make_tile(const float* x, int64_t stride, int64_t k, void* tile) {
    constexpr int64_t kColumns = 64 / sizeof(typename Pairs::Number);  // in sixteen words
    auto* numbers = static_cast<typename Pairs::Number*>(tile);
    for (int64_t c = 0; c < k; c += kColumns) {
        __m512i words[kTile];
        for (int64_t r = 0; r < kTile; ++r) words[r] = Pairs::load_words(x + r * stride + c);
        transpose(words);
        for (int64_t i = 0; i < kTile; ++i) _mm512_storeu_si512(numbers + c * kTile + i * kColumns, words[i]);
    }
}

// Codes are bf16 numbers: rounding would change nothing.
template <class Pairs>
void widen(KeyValueFormat stored, const void* numbers, int64_t k, void* tile) {
    const auto* words = static_cast<const int32_t*>(numbers);
    auto* to = static_cast<typename Pairs::Number*>(tile);
    const int each = stored == KeyValueFormat::int8 ? 4 : 2;
    for (int64_t c = 0; c < k; c += each, words += kTile)
        for (int i = 0; i < each; i += 2, to += 2 * kTile) {
            const __m512i word = _mm512_loadu_si512(words);
            if (each == 4)
                Pairs::store(number_of<Avx512, int8_t>(word, i), number_of<Avx512, int8_t>(word, i + 1), to);
            else
                Pairs::store(first_of(word), second_of(word), to);
        }
}

// Eight rows by two tiles of columns at a time: sixteen sums, and fewer loads than products.
template <class Pairs>
void add_pair(const typename Pairs::Pair (&pairs)[2], const typename Pairs::Number* rows, int row, __m512 (&total)[8][2]) {
    for (int m = 0; m < 8; ++m)
        for (int t = 0; t < 2; ++t) total[m][t] = Pairs::multiply_add(total[m][t], pairs[t], rows, row + m);
}

template <class Pairs>
void multiply_tiles(const void* rows, const void* columns, int64_t next, int64_t k, float* y, int64_t stride, bool adds) {
    using Number = typename Pairs::Number;
    const auto* first = static_cast<const Number*>(columns);
    const auto* second = reinterpret_cast<const Number*>(static_cast<const char*>(columns) + next);
    for (int row = 0; row < kTile; row += 8, y += 8 * stride) {
        const Number* numbers = static_cast<const Number*>(rows);
        __m512 total[8][2];
        for (int m = 0; m < 8; ++m)
            for (int t = 0; t < 2; ++t) total[m][t] = adds ? _mm512_loadu_ps(y + m * stride + t * kTile) : _mm512_setzero_ps();
        int64_t c = 0;
        for (; c + 2 <= k; c += 2, numbers += 2 * kTile)
            add_pair<Pairs>({Pairs::load(first + c * kTile), Pairs::load(second + c * kTile)}, numbers, row, total);
        if (c < k)
            add_pair<Pairs>({Pairs::first_alone(Pairs::load(first + c * kTile)), Pairs::first_alone(Pairs::load(second + c * kTile))}, numbers, row, total);
        for (int m = 0; m < 8; ++m)
            for (int t = 0; t < 2; ++t) _mm512_storeu_ps(y + m * stride + t * kTile, total[m][t]);
    }
}
