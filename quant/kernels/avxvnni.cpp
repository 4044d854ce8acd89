// AVX2 with FMA, F16C and AVX-VNNI, which processors without AVX-512 have: Intel's since Alder Lake.

#include "bits.h"
#include "fetch.h"
#include "instruction_set.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

// The first compilers that know it.
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 13 : __GNUC__ >= 11)

#include <cpuid.h>
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avxvnni")
#endif

namespace zaya {
namespace {

#include "avx2_lanes.h"

struct AvxVnni : Avx2 {
    static constexpr int kRows = 8;
    static constexpr int kParts = 1;
    static constexpr int kStreams = 1;
    static constexpr bool kHasDots = true;

    // It multiplies unsigned by signed bytes: the weights are moved up by 128, which the start of the sum takes back.
    static Bytes load_int8(const uint8_t* p) { return _mm256_xor_si256(load(p), _mm256_set1_epi8(-128)); }
    static Int start_int8(int32_t sum_of_x) { return splat(-128 * sum_of_x); }
    static Int dot_int4(Int sum, Bytes w, const int8_t* x) { return _mm256_dpbusd_avx_epi32(sum, w, four_codes(x)); }
    static Int dot_int8(Int sum, Bytes w, const int8_t* x) { return dot_int4(sum, w, x); }
};

#include "float_lanes.h"
#include "code_products.h"
#include "attention_steps.h"
#include "float_steps.h"
#include "integer_tiles.h"
#include "prompt_steps.h"
#include "bf16_rows.h"
#include "avx2_rows.h"

}  // namespace
}  // namespace zaya

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC reset_options
#endif

namespace zaya {
namespace {

// By the processor's own word: not every compiler's __builtin_cpu_supports knows it.
bool has_avxvnni() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return avx2()->is_supported() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & 1u << 4);
}

}  // namespace

const InstructionSet* avxvnni() {
    static const InstructionSet set = {"avxvnni", has_avxvnni, AvxVnni::kRows, AvxVnni::kStreams, multiply_rows<AvxVnni, Int4<AvxVnni>>,
                                       multiply_rows<AvxVnni, Int8<AvxVnni>>, multiply_bf16_tile<Avx2Rows>, true, &kPromptSteps<FloatPairs<AvxVnni>>, float_steps<AvxVnni>()};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const InstructionSet* avxvnni() { return nullptr; }
}  // namespace zaya

#endif
