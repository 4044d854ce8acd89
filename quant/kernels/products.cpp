#include "products.h"

#include <vector>

#include "instruction_set.h"
#include "matmul.h"
#include "parallel.h"

using namespace zaya;

void zaya_use_parallel_region(void* region) { use_parallel_region(reinterpret_cast<ParallelRegion>(region)); }

const char* zaya_instruction_set(int index) {
    return static_cast<size_t>(index) < instruction_sets().size() ? instruction_set_at(index).name : nullptr;
}

int zaya_is_supported(int index) { return instruction_set_at(index).is_supported(); }

int zaya_has_bf16(int index) { return instruction_set_at(index).bf16 != nullptr; }

int zaya_has_prompt_attention(int index) { return instruction_set_at(index).prompt != nullptr; }

void zaya_multiply(int instruction_set, const ZayaProduct* product) {
    std::vector<Weights> weights;
    for (int64_t i = 0; i < product->matrices; ++i)
        weights.push_back({product->weights[i], product->scales ? product->scales[i] : nullptr});
    const PreparedRows rows(instruction_set_at(instruction_set), static_cast<Format>(product->format),
                            {product->x, product->x_is_bf16 != 0, nullptr}, product->k, product->counts, product->matrices,
                            product->threads);
    rows.multiply(weights.data(), product->n, product->y);
}
