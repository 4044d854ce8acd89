// Products of float32 rows by small float matrices: the router's, and the convolutions within heads.

#pragma once

#include <algorithm>

#include "instruction_set.h"
#include "layer.h"
#include "parallel.h"

namespace zaya {

constexpr int64_t kPanelRows = 32;  // worked on at a time

// The weights of outputs 16 * tile to 16 * tile + 15.
inline const void* panel_at(const ZayaPanels& panels, int64_t tile) {
    return static_cast<const char*>(panels.weights) + tile * kTile * panels.k * (panels.is_bf16 ? 2 : 4);
}

// then(y, row, column) for every 16 outputs of a row, after y (rows, stride) = x (rows, k) times the panels plus the bias.
template <class Then>
void multiply_panels(const InstructionSet& set, const ZayaPanels& panels, const float* x, int64_t rows, float* y, int64_t stride,
                     int threads, const Then& then) {
    const int64_t tiles = (panels.n + kTile - 1) / kTile, blocks = (rows + kPanelRows - 1) / kPanelRows;
    parallel_for(threads, tiles * blocks, [&](int64_t item) {
        const int64_t tile = item % tiles, first = item / tiles * kPanelRows, count = std::min(kPanelRows, rows - first);
        float* out = y + first * stride + tile * kTile;
        set.steps.multiply_panel(x + first * panels.k, count, panels.k, panel_at(panels, tile), panels.is_bf16 != 0, out, stride);
        for (int64_t m = 0; m < count; ++m) {
            for (int64_t i = 0; panels.bias && i < kTile; ++i) out[m * stride + i] += panels.bias[tile * kTile + i];
            then(out + m * stride, first + m, tile * kTile);
        }
    });
}

}  // namespace zaya
