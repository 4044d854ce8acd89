// AVX-512 with VNNI; with BF16 where the processor has it.

#include "bits.h"
#include "fetch.h"
#include "instruction_set.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__) && defined(__GNUC__)  // clang too

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,f16c")
#endif

namespace zaya {
namespace {

// The first and the second of each pair of bf16 numbers.
__m512 first_of(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
__m512 second_of(__m512i pairs) { return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u)))); }

struct Avx512 {
    static constexpr int kLanes = 16;
    static constexpr int kRows = 12;
    static constexpr int kParts = 1;
    static constexpr int kStreams = 1;
    static constexpr bool kHasDots = true;
    using Int = __m512i;
    using Float = __m512;
    using Bytes = __m512i;

    static Bytes load(const uint8_t* p) { return _mm512_loadu_si512(p); }
    static Bytes low_nibbles(Bytes b) { return _mm512_and_si512(b, _mm512_set1_epi8(15)); }
    static Bytes high_nibbles(Bytes b) { return low_nibbles(_mm512_srli_epi16(b, 4)); }
    // VNNI multiplies unsigned by signed bytes: the weights are moved up by 128, which the start of the sum takes back.
    static Bytes load_int8(const uint8_t* p) { return _mm512_xor_si512(load(p), _mm512_set1_epi8(-128)); }
    static Int start_int8(int32_t sum_of_x) { return splat(-128 * sum_of_x); }

    static Int splat(int32_t value) { return _mm512_set1_epi32(value); }
    static Int dot_int4(Int sum, Bytes w, const int8_t* x) {
        int32_t four;
        std::memcpy(&four, x, 4);
        return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(four));
    }
    static Int dot_int8(Int sum, Bytes w, const int8_t* x) { return dot_int4(sum, w, x); }
    static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }

    static Int load_words(const void* p) { return _mm512_loadu_si512(p); }
    static Int shift_left(Int words, int bits) { return _mm512_sll_epi32(words, _mm_cvtsi32_si128(bits)); }
    static Int shift_right(Int words, int bits) { return _mm512_sra_epi32(words, _mm_cvtsi32_si128(bits)); }
    static Int upper_half(Int words) { return _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u))); }
    static Float as_floats(Int words) { return _mm512_castsi512_ps(words); }

    static Float splat(float value) { return _mm512_set1_ps(value); }
    static Float to_float(Int value) { return _mm512_cvtepi32_ps(value); }
    static Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float multiply_add(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
    static Float subtract(Float a, Float b) { return _mm512_sub_ps(a, b); }
    static Float divide(Float a, Float b) { return _mm512_div_ps(a, b); }
    static Float largest(Float a, Float b) { return _mm512_max_ps(a, b); }
    static bool any_above(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
    static Float power_of_two(Float n) { return _mm512_scalef_ps(splat(1.0f), n); }
    static Float fraction(Float x) { return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
    static Float times_power_of_two(Float value, Float x) { return _mm512_scalef_ps(value, x); }
    static Float load(const float* p) { return _mm512_loadu_ps(p); }
    static Float load_bf16(const uint16_t* p) {
        return first_of(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
    }
    static Float load_half(const uint16_t* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static void store(Float value, float* p, int64_t count) {
        if (count >= kLanes)
            _mm512_storeu_ps(p, value);
        else if (count > 0)
            _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), value);
    }
};

#include "float_lanes.h"
#include "code_products.h"
#include "attention_steps.h"
#include "float_steps.h"
#include "integer_tiles.h"

#include "prompt_steps.h"

#include "avx512_pairs.h"
#include "bf16_rows.h"
#include "avx512_rows.h"

}  // namespace
}  // namespace zaya

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC reset_options
#endif

namespace zaya {
namespace {

bool has_vnni() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}
bool has_bf16() { return has_vnni() && __builtin_cpu_supports("avx512bf16"); }

}  // namespace

const InstructionSet* avx512bf16() {
    static const InstructionSet set = {"avx512bf16", has_bf16, Avx512::kRows, Avx512::kStreams, multiply_rows<Avx512, Int4<Avx512>>,
                                       multiply_rows<Avx512, Int8<Avx512>>, multiply_bf16_tile<Avx512Rows<Bf16Columns>>, false, &kPromptSteps<Bf16Pairs>, float_steps<Avx512>()};
    return &set;
}

const InstructionSet* avx512vnni() {
    static const InstructionSet set = {"avx512vnni", has_vnni, Avx512::kRows, Avx512::kStreams, multiply_rows<Avx512, Int4<Avx512>>,
                                       multiply_rows<Avx512, Int8<Avx512>>, multiply_bf16_tile<Avx512Rows<FloatColumns>>, true, &kPromptSteps<FloatPairs<Avx512>>, float_steps<Avx512>()};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const InstructionSet* avx512bf16() { return nullptr; }
const InstructionSet* avx512vnni() { return nullptr; }
}  // namespace zaya

#endif
