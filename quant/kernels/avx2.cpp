// AVX2 with FMA and F16C.

#include "bits.h"
#include "fetch.h"
#include "instruction_set.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__) && defined(__GNUC__)  // clang too

#include <cpuid.h>
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

namespace zaya {
namespace {

#include "avx2_lanes.h"
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

// F16C by the processor's own word: clang's __builtin_cpu_supports did not know it for long.
bool has_avx2() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

}  // namespace

const InstructionSet* avx2() {
    static const InstructionSet set = {"avx2", has_avx2, Avx2::kRows, Avx2::kStreams, multiply_rows<Avx2, Int4<Avx2>>,
                                       multiply_rows<Avx2, Int8<Avx2>>, multiply_bf16_tile<Avx2Rows>, true, &kPromptSteps<FloatPairs<Avx2>>, float_steps<Avx2>()};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const InstructionSet* avx2() { return nullptr; }
}  // namespace zaya

#endif
