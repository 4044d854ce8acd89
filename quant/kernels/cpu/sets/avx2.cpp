// AVX2 with FMA and F16C.

#include "quant/kernels/cpu/sets/product_set.h"
#include "quant/kernels/cpu/sets/target.h"

#if defined(ZAYA_AVX2)

ZAYA_BEGIN_TARGET(ZAYA_AVX2)
#include "quant/kernels/cpu/gemm/activations.inc"
#include "quant/kernels/cpu/gemm/bf16_gemm_avx2.inc"
#include "quant/kernels/cpu/gemm/int_gemm_avx2.inc"
#include "quant/kernels/cpu/gemm/panel_gemm.inc"
ZAYA_END_TARGET

namespace zaya {
namespace {

// F16C by the processor's own word: clang's __builtin_cpu_supports did not know it for long.
bool has_avx2() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) &&
           (ecx & bit_F16C);
}

}  // namespace

const ProductSet* avx2_products() {
    static const ProductSet set = {"avx2",
                                   has_avx2,
                                   Avx2::kRows,
                                   int_gemm_avx2<Int4<Avx2>>,
                                   int_gemm_avx2<Int8<Avx2>>,
                                   bf16_gemm<Avx2Bf16Kernel>,
                                   true,
                                   panel_gemm<Avx2>,
                                   quantize<Avx2>,
                                   swiglu<Avx2>};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const ProductSet* avx2_products() { return nullptr; }
}  // namespace zaya

#endif
