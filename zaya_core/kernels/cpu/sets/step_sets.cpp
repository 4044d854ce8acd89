#include "zaya_core/kernels/abi.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

namespace zaya {

const std::vector<const StepSet*>& step_sets() {
    static const std::vector<const StepSet*> sets = [] {
        std::vector<const StepSet*> found;
        for (const StepSet* set : {avx512bf16_steps(), avx512vnni_steps(), avxvnni_steps(), avx2_steps(),
                                   neon_dotprod_steps(), portable_steps()})
            if (set) found.push_back(set);
        return found;
    }();
    return sets;
}

}  // namespace zaya

const char* zaya_instruction_set(int index) {
    const auto at = static_cast<size_t>(index);
    return at < zaya::step_sets().size() ? zaya::step_sets()[at]->name : nullptr;
}

int zaya_has_prompt_attention(int index) { return zaya::kernels_at(index).steps.prompt != nullptr; }
