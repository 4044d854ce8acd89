// Gemm of float32 rows with small float matrices (QuantPanels).

#pragma once

#include <algorithm>
#include <cstdint>

#include "quant/kernels/abi.h"
#include "quant/kernels/cpu/gemm/layout.h"
#include "quant/kernels/cpu/parallel/parallel.h"
#include "quant/kernels/cpu/sets/product_set.h"

namespace zaya {

constexpr int64_t kPanelRows = 32;  // of a work item

// The weights of outputs 16 * tile to 16 * tile + 15.
inline const void* panel_at(const QuantPanels& panels, int64_t tile) {
    return static_cast<const char*>(panels.weights) + tile * kTile * panels.k * (panels.is_bf16 ? 2 : 4);
}

// epilogue(y, row, column) for every 16 outputs of a row, after y (rows, stride) = x (rows, k) times the panels plus
// the bias.
template <class Epilogue>
void panels_gemm(const ProductSet& products, const QuantPanels& panels, const float* x, int64_t rows, float* y,
                 int64_t stride, int threads, const Epilogue& epilogue) {
    const int64_t tiles = (panels.n + kTile - 1) / kTile, blocks = (rows + kPanelRows - 1) / kPanelRows;
    parallel_for(threads, tiles * blocks, [&](int64_t item) {
        const int64_t tile = item % tiles, first = item / tiles * kPanelRows,
                      count = std::min(kPanelRows, rows - first);
        float* out = y + first * stride + tile * kTile;
        products.panel_gemm(x + first * panels.k, count, panels.k, panel_at(panels, tile), panels.is_bf16 != 0, out,
                            stride);
        for (int64_t m = 0; m < count; ++m) {
            for (int64_t i = 0; panels.bias && i < kTile; ++i) out[m * stride + i] += panels.bias[tile * kTile + i];
            epilogue(out + m * stride, first + m, tile * kTile);
        }
    });
}

}  // namespace zaya
