// Plain C++.

#include "quant/kernels/cpu/sets/target.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

#include "quant/kernels/cpu/sets/portable.inc"
#include "zaya_core/kernels/cpu/attention/flash_decode.inc"
#include "zaya_core/kernels/cpu/layer/layer_steps.inc"
#include "zaya_core/kernels/cpu/vocabulary/exponentials.inc"

namespace zaya {

const StepSet* portable_steps() {
    static const StepSet set = {"portable",
                                nullptr,
                                rms_norm<Portable>,
                                merge<Portable>,
                                gelu<Portable>,
                                square_sum<Portable>,
                                exponentials<Portable>,
                                attend<Portable>};
    return &set;
}

}  // namespace zaya
