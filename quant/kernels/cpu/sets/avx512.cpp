// AVX-512 with VNNI; with BF16 where the processor has it.

#include "quant/kernels/cpu/sets/product_set.h"
#include "quant/kernels/cpu/sets/target.h"

#if defined(ZAYA_AVX512)

ZAYA_BEGIN_TARGET(ZAYA_AVX512)
#include "quant/kernels/cpu/gemm/activations.inc"
#include "quant/kernels/cpu/gemm/bf16_gemm_avx512.inc"
#include "quant/kernels/cpu/gemm/int_gemm.inc"
#include "quant/kernels/cpu/gemm/panel_gemm.inc"
#include "quant/kernels/cpu/sets/avx512.inc"
ZAYA_END_TARGET

namespace zaya {
namespace {

bool has_vnni() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}
bool has_bf16() { return has_vnni() && __builtin_cpu_supports("avx512bf16"); }

}  // namespace

const ProductSet* avx512bf16_products() {
    static const ProductSet set = {"avx512bf16",
                                   has_bf16,
                                   Avx512::kRows,
                                   int_gemm<Avx512, Int4<Avx512>>,
                                   int_gemm<Avx512, Int8<Avx512>>,
                                   bf16_gemm<Avx512Bf16Kernel<Bf16Columns>>,
                                   false,
                                   panel_gemm<Avx512>,
                                   quantize<Avx512>,
                                   swiglu<Avx512>};
    return &set;
}

const ProductSet* avx512vnni_products() {
    static const ProductSet set = {"avx512vnni",
                                   has_vnni,
                                   Avx512::kRows,
                                   int_gemm<Avx512, Int4<Avx512>>,
                                   int_gemm<Avx512, Int8<Avx512>>,
                                   bf16_gemm<Avx512Bf16Kernel<FloatColumns>>,
                                   true,
                                   panel_gemm<Avx512>,
                                   quantize<Avx512>,
                                   swiglu<Avx512>};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const ProductSet* avx512bf16_products() { return nullptr; }
const ProductSet* avx512vnni_products() { return nullptr; }
}  // namespace zaya

#endif
