// Arm NEON with the dot-product instructions.

#include "quant/kernels/cpu/sets/product_set.h"
#include "quant/kernels/cpu/sets/target.h"

#if defined(ZAYA_NEON)

#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

ZAYA_BEGIN_TARGET(ZAYA_NEON)
#include "quant/kernels/cpu/gemm/activations.inc"
#include "quant/kernels/cpu/gemm/int_gemm.inc"
#include "quant/kernels/cpu/gemm/panel_gemm.inc"
#include "quant/kernels/cpu/sets/neon.inc"
ZAYA_END_TARGET

namespace zaya {
namespace {

bool has_dotprod() {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return true;  // every Arm machine of Apple's that runs this has them
#endif
}

}  // namespace

const ProductSet* neon_dotprod_products() {
    static const ProductSet set = {"neon_dotprod",
                                   has_dotprod,
                                   NeonDotprod::kRows,
                                   int_gemm<NeonDotprod, Int4<NeonDotprod>>,
                                   int_gemm<NeonDotprod, Int8<NeonDotprod>>,
                                   nullptr,
                                   false,
                                   panel_gemm<NeonDotprod>,
                                   quantize<NeonDotprod>,
                                   swiglu<NeonDotprod>};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const ProductSet* neon_dotprod_products() { return nullptr; }
}  // namespace zaya

#endif
