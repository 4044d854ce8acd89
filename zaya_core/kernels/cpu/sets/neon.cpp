// Arm NEON with the dot-product instructions.

#include "quant/kernels/cpu/sets/target.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

#if defined(ZAYA_NEON)

ZAYA_BEGIN_TARGET(ZAYA_NEON)
#include "quant/kernels/cpu/sets/neon.inc"
#include "zaya_core/kernels/cpu/attention/flash_decode.inc"
#include "zaya_core/kernels/cpu/layer/layer_steps.inc"
#include "zaya_core/kernels/cpu/vocabulary/exponentials.inc"
ZAYA_END_TARGET

namespace zaya {

const StepSet* neon_dotprod_steps() {
    static const StepSet set = {"neon_dotprod",
                                nullptr,
                                rms_norm<NeonDotprod>,
                                merge<NeonDotprod>,
                                gelu<NeonDotprod>,
                                square_sum<NeonDotprod>,
                                exponentials<NeonDotprod>,
                                attend<NeonDotprod>};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const StepSet* neon_dotprod_steps() { return nullptr; }
}  // namespace zaya

#endif
