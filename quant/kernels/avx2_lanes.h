// Eight lanes of AVX2 with FMA and F16C.
//
// Include inside an unnamed namespace of a file that is compiled for them.

struct Avx2 {
    static constexpr int kLanes = 8;
    static constexpr int kRows = 4;
    static constexpr int kParts = 2;
    static constexpr int kStreams = 2;
    static constexpr bool kHasDots = false;
    using Int = __m256i;
    using Float = __m256;
    using Bytes = __m256i;

    static Bytes load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    static Bytes low_nibbles(Bytes b) { return _mm256_and_si256(b, _mm256_set1_epi8(15)); }
    static Bytes high_nibbles(Bytes b) { return low_nibbles(_mm256_srli_epi16(b, 4)); }
    static Bytes load_int8(const uint8_t* p) { return load(p); }
    static Int start_int8(int32_t) { return _mm256_setzero_si256(); }

    static Int splat(int32_t value) { return _mm256_set1_epi32(value); }
    static Int four_codes(const int8_t* x) {
        int32_t four;
        std::memcpy(&four, x, 4);
        return splat(four);
    }
    // GCC would keep the products of a whole group on the stack and add them up in the end.
    static Int now(Int sum) {
        asm("" : "+x"(sum));
        return sum;
    }
    static Int dot_int4(Int sum, Bytes w, const int8_t* x) { return now(_mm256_add_epi16(sum, _mm256_maddubs_epi16(w, four_codes(x)))); }
    // Half a group's products by weights of -8..7 stay within 32 * 8 * 127 = 32512. The weights are moved up by 8, so a sum begins
    // with what that adds taken away; that it wraps around on the way does not matter.
    static int32_t start_int4(const int8_t* codes) {
        int32_t halves[2] = {};
        for (int64_t i = 0; i < kGroup; ++i) halves[i / 2 % 2] += codes[i];
        return static_cast<int32_t>(static_cast<uint32_t>(-8 * halves[1]) << 16 | (static_cast<uint32_t>(-8 * halves[0]) & 0xffffu));
    }
    static Int widen(Int pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }
    // maddubs adds two products in 16 bits and saturates: |w| and x with w's sign stay within 2 * 127 * 127 = 32258.
    static Int dot_int8(Int sum, Bytes w, const int8_t* x) {
        return now(add(sum, widen(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(four_codes(x), w)))));
    }
    static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }

    static Int even_bytes(Int words) { return odd_bytes(_mm256_slli_epi16(words, 8)); }
    static Int odd_bytes(Int words) { return _mm256_srai_epi16(words, 8); }
    static Int add_pairs(Int sum, Int pairs, const int8_t* two) { return now(add(sum, _mm256_madd_epi16(pairs, four_codes(two)))); }

    static Int load_words(const void* p) { return load(static_cast<const uint8_t*>(p)); }
    static Int shift_left(Int words, int bits) { return _mm256_sll_epi32(words, _mm_cvtsi32_si128(bits)); }
    static Int shift_right(Int words, int bits) { return _mm256_sra_epi32(words, _mm_cvtsi32_si128(bits)); }
    static Int upper_half(Int words) { return _mm256_and_si256(words, splat(static_cast<int32_t>(0xffff0000u))); }
    static Float as_floats(Int words) { return _mm256_castsi256_ps(words); }

    static Float splat(float value) { return _mm256_set1_ps(value); }
    static Float to_float(Int value) { return _mm256_cvtepi32_ps(value); }
    static Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float multiply_add(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float subtract(Float a, Float b) { return _mm256_sub_ps(a, b); }
    static Float divide(Float a, Float b) { return _mm256_div_ps(a, b); }
    static Float largest(Float a, Float b) { return _mm256_max_ps(a, b); }
    static bool any_above(Float a, Float b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0; }
    static Float power_of_two(Float n) {
        const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
    }
    static Float fraction(Float x) { return subtract(x, _mm256_floor_ps(x)); }
    static Float times_power_of_two(Float value, Float x) {
        const Float least = splat(-126.0f), whole = largest(_mm256_floor_ps(x), least);
        return _mm256_and_ps(multiply(value, power_of_two(whole)), _mm256_cmp_ps(x, least, _CMP_NLT_UQ));
    }
    static Float load(const float* p) { return _mm256_loadu_ps(p); }
    static Float load_bf16(const uint16_t* p) {
        const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
    }
    static Float load_half(const uint16_t* p) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static void store(Float value, float* p, int64_t count) {
        if (count >= kLanes) {
            _mm256_storeu_ps(p, value);
        } else if (count > 0) {
            float lanes[kLanes];
            _mm256_storeu_ps(lanes, value);
            std::memcpy(p, lanes, static_cast<size_t>(count) * sizeof(float));
        }
    }
};
