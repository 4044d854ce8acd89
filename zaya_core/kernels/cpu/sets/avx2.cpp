// AVX2 with FMA and F16C.

#include "quant/kernels/cpu/sets/target.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

#if defined(ZAYA_AVX2)

ZAYA_BEGIN_TARGET(ZAYA_AVX2)
#include "quant/kernels/cpu/sets/avx2.inc"
#include "zaya_core/kernels/cpu/attention/flash_decode.inc"
#include "zaya_core/kernels/cpu/attention/flash_prompt.inc"
#include "zaya_core/kernels/cpu/layer/layer_steps.inc"
#include "zaya_core/kernels/cpu/vocabulary/exponentials.inc"
ZAYA_END_TARGET

namespace zaya {

const StepSet* avx2_steps() {
    static const StepSet set = {"avx2",
                                &kFlashPrompt<FloatPairs<Avx2>>,
                                rms_norm<Avx2>,
                                merge<Avx2>,
                                gelu<Avx2>,
                                square_sum<Avx2>,
                                exponentials<Avx2>,
                                attend<Avx2>};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const StepSet* avx2_steps() { return nullptr; }
}  // namespace zaya

#endif
