// From the residual stream to logits.

#include "quant/kernels/cpu/gemm/bits.h"
#include "quant/kernels/cpu/gemm/matmul.h"
#include "quant/kernels/cpu/parallel/aligned.h"
#include "quant/kernels/cpu/parallel/parallel.h"
#include "zaya_core/kernels/abi.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

void zaya_logits(int instruction_set, const ZayaHead* head, int32_t threads, int64_t rows, const float* residual,
                 float* logits) {
    using namespace zaya;
    const Kernels kernels = kernels_at(instruction_set);
    const int64_t d = head->hidden, v = head->vocabulary;
    const Aligned<float> normed = aligned<float>(rows * d);
    parallel_rows(threads, rows, [&](int64_t row) {
        float* own = normed.get() + row * d;
        kernels.steps.rms_norm(residual + row * d, head->norm, d, head->rms_norm_eps, own);
        for (int64_t i = 0; head->rounds_to_bf16 && i < d; ++i) own[i] = as_float(to_bf16(own[i]));
    });
    const Activations x(kernels.products, static_cast<Format>(head->format), {normed.get(), false, nullptr}, d, &rows,
                        1, threads);
    const Weights weights = {head->matrix.codes, head->matrix.scales};
    x.multiply(&weights, v, logits);
    if (head->bias)
        parallel_rows(threads, rows, [&](int64_t row) {
            for (int64_t i = 0; i < v; ++i) logits[row * v + i] += head->bias[i];
        });
}
