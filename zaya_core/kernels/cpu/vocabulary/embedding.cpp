// From ids to the residual stream.

#include <algorithm>

#include "quant/kernels/cpu/gemm/matmul.h"
#include "quant/kernels/cpu/gemm/packed_row.h"
#include "quant/kernels/cpu/parallel/parallel.h"
#include "zaya_core/kernels/abi.h"

int zaya_embed(const ZayaEmbedding* embedding, int32_t threads, int64_t rows, const int64_t* ids, float* residual) {
    const auto is_row = [&](int64_t id) { return 0 <= id && id < embedding->vocabulary; };
    if (!std::all_of(ids, ids + rows, is_row)) return 0;
    zaya::parallel_rows(threads, rows, [&](int64_t row) {
        float* to = residual + row * embedding->hidden;
        zaya::PackedRow(embedding->matrix, embedding->hidden, ids[row])
            .read(static_cast<zaya::Format>(embedding->format), to);
        for (int64_t i = 0; i < embedding->hidden; ++i) to[i] = (to[i] + embedding->bias[i]) * embedding->scale[i];
    });
    return 1;
}
