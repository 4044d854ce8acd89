// AVX2 with AVX-VNNI.

#include "quant/kernels/cpu/sets/target.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

#if defined(ZAYA_AVXVNNI)

ZAYA_BEGIN_TARGET(ZAYA_AVXVNNI)
#include "quant/kernels/cpu/sets/avxvnni.inc"
#include "zaya_core/kernels/cpu/attention/flash_decode.inc"
#include "zaya_core/kernels/cpu/attention/flash_prompt.inc"
#include "zaya_core/kernels/cpu/layer/layer_steps.inc"
#include "zaya_core/kernels/cpu/vocabulary/exponentials.inc"
ZAYA_END_TARGET

namespace zaya {

const StepSet* avxvnni_steps() {
    static const StepSet set = {"avxvnni",
                                &kFlashPrompt<FloatPairs<AvxVnni>>,
                                rms_norm<AvxVnni>,
                                merge<AvxVnni>,
                                gelu<AvxVnni>,
                                square_sum<AvxVnni>,
                                exponentials<AvxVnni>,
                                attend<AvxVnni>};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const StepSet* avxvnni_steps() { return nullptr; }
}  // namespace zaya

#endif
