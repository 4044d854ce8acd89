// Plain C++ for any other processor, and the yardstick of the others.

#include "quant/kernels/cpu/sets/product_set.h"
#include "quant/kernels/cpu/sets/target.h"

#include "quant/kernels/cpu/gemm/activations.inc"
#include "quant/kernels/cpu/gemm/bf16_gemm_portable.inc"
#include "quant/kernels/cpu/gemm/int_gemm.inc"
#include "quant/kernels/cpu/gemm/panel_gemm.inc"
#include "quant/kernels/cpu/sets/portable.inc"

namespace zaya {

const ProductSet* portable_products() {
    static const ProductSet set = {"portable",
                                   [] { return true; },
                                   Portable::kRows,
                                   int_gemm<Portable, Int4<Portable>>,
                                   int_gemm<Portable, Int8<Portable>>,
                                   bf16_gemm<PortableBf16Kernel>,
                                   true,
                                   panel_gemm<Portable>,
                                   quantize<Portable>,
                                   swiglu<Portable>};
    return &set;
}

}  // namespace zaya
