#include "quant/kernels/abi.h"
#include "quant/kernels/cpu/sets/product_set.h"

namespace zaya {

const std::vector<const ProductSet*>& product_sets() {
    static const std::vector<const ProductSet*> sets = [] {
        std::vector<const ProductSet*> found;
        for (const ProductSet* set : {avx512bf16_products(), avx512vnni_products(), avxvnni_products(), avx2_products(),
                                      neon_dotprod_products(), portable_products()})
            if (set) found.push_back(set);
        return found;
    }();
    return sets;
}

}  // namespace zaya

const char* quant_instruction_set(int index) {
    return static_cast<size_t>(index) < zaya::product_sets().size() ? zaya::products_at(index).name : nullptr;
}

int quant_is_supported(int index) { return zaya::products_at(index).is_supported(); }

int quant_has_bf16(int index) { return zaya::products_at(index).bf16_gemm != nullptr; }
