// AVX-512 with VNNI; with BF16 where the processor has it.

#include "quant/kernels/cpu/sets/target.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

#if defined(ZAYA_AVX512)

ZAYA_BEGIN_TARGET(ZAYA_AVX512)
#include "quant/kernels/cpu/sets/avx512.inc"
#include "zaya_core/kernels/cpu/attention/bf16_pairs_avx512.inc"
#include "zaya_core/kernels/cpu/attention/flash_decode.inc"
#include "zaya_core/kernels/cpu/attention/flash_prompt.inc"
#include "zaya_core/kernels/cpu/layer/layer_steps.inc"
#include "zaya_core/kernels/cpu/vocabulary/exponentials.inc"
ZAYA_END_TARGET

namespace zaya {

const StepSet* avx512bf16_steps() {
    static const StepSet set = {"avx512bf16", &kFlashPrompt<Bf16Pairs>, rms_norm<Avx512>,     merge<Avx512>,
                                gelu<Avx512>, square_sum<Avx512>,       exponentials<Avx512>, attend<Avx512>};
    return &set;
}

const StepSet* avx512vnni_steps() {
    static const StepSet set = {"avx512vnni",         &kFlashPrompt<FloatPairs<Avx512>>,
                                rms_norm<Avx512>,     merge<Avx512>,
                                gelu<Avx512>,         square_sum<Avx512>,
                                exponentials<Avx512>, attend<Avx512>};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const StepSet* avx512bf16_steps() { return nullptr; }
const StepSet* avx512vnni_steps() { return nullptr; }
}  // namespace zaya

#endif
