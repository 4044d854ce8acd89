// AVX2 with AVX-VNNI.

#include "quant/kernels/cpu/sets/product_set.h"
#include "quant/kernels/cpu/sets/target.h"

#if defined(ZAYA_AVXVNNI)

ZAYA_BEGIN_TARGET(ZAYA_AVXVNNI)
#include "quant/kernels/cpu/gemm/activations.inc"
#include "quant/kernels/cpu/gemm/bf16_gemm_avx2.inc"
#include "quant/kernels/cpu/gemm/int_gemm.inc"
#include "quant/kernels/cpu/gemm/panel_gemm.inc"
#include "quant/kernels/cpu/sets/avxvnni.inc"
ZAYA_END_TARGET

namespace zaya {
namespace {

// By the processor's own word: not every compiler's __builtin_cpu_supports knows it.
bool has_avxvnni() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return avx2_products()->is_supported() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & 1u << 4);
}

}  // namespace

const ProductSet* avxvnni_products() {
    static const ProductSet set = {"avxvnni",
                                   has_avxvnni,
                                   AvxVnni::kRows,
                                   int_gemm<AvxVnni, Int4<AvxVnni>>,
                                   int_gemm<AvxVnni, Int8<AvxVnni>>,
                                   bf16_gemm<Avx2Bf16Kernel>,
                                   true,
                                   panel_gemm<AvxVnni>,
                                   quantize<AvxVnni>,
                                   swiglu<AvxVnni>};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const ProductSet* avxvnni_products() { return nullptr; }
}  // namespace zaya

#endif
