// Pairs of bf16 numbers for prompt_steps.h, by AVX-512-BF16.

struct Bf16Pairs {
    using V = Avx512;
    using Number = uint16_t;
    using Step = __m512i;
    static constexpr int kEach = 2;
    static constexpr KeyValueFormat kFormat = KeyValueFormat::bf16;
    static constexpr int kRows = 8, kTiles = 2;

    static Step load(const Number* pair) { return _mm512_loadu_si512(pair); }
    static const Number* row_at(const Number* tile, int m) { return tile + 2 * m; }
    static void keep_first(Step& step) { step = _mm512_and_si512(step, _mm512_set1_epi32(0xffff)); }
    static __m512 add_product(__m512 sum, Step step, const Number* row, int m, int) {
        int32_t two;
        std::memcpy(&two, row + 2 * m, 4);
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(step), reinterpret_cast<__m512bh>(_mm512_set1_epi32(two)));
    }
    static void store(const Lanes<V>& first, const Lanes<V>& second, Number* pair) {
        const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        _mm512_storeu_si512(pair, _mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second.part[0], first.part[0]))));
    }
};
