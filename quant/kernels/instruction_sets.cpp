#include "instruction_set.h"

namespace zaya {

const std::vector<const InstructionSet*>& instruction_sets() {
    static const std::vector<const InstructionSet*> sets = [] {
        std::vector<const InstructionSet*> found;
        for (const InstructionSet* set : {avx512bf16(), avx512vnni(), avxvnni(), avx2(), neon_dotprod(), portable()})
            if (set) found.push_back(set);
        return found;
    }();
    return sets;
}

}  // namespace zaya
