// One row of a packed matrix (layout.h) as float32.

#pragma once

#include <cstdint>

#include "quant/kernels/abi.h"
#include "quant/kernels/cpu/gemm/bits.h"
#include "quant/kernels/cpu/gemm/layout.h"
#include "quant/kernels/cpu/gemm/matmul.h"

namespace zaya {

class PackedRow {
public:
    // Of a matrix of k columns.
    PackedRow(const QuantMatrix& matrix, int64_t k, int64_t row)
        : matrix_(matrix), k_(k), row_(row), tile_(row / kTile), lane_(row % kTile), groups_(k / kGroup) {}

    // k numbers
    void read(Format format, float* to) const {
        switch (format) {
            case Format::int4: return read_int4(to);
            case Format::int8: return read_int8(to);
            case Format::bf16: return read_bf16(to);
        }
    }

private:
    void read_int4(float* to) const {
        const auto* codes =
            static_cast<const uint8_t*>(matrix_.codes) + tile_ * groups_ * kInt4TileGroupBytes + lane_ * 4;
        const auto* scales = static_cast<const uint16_t*>(matrix_.scales) + tile_ * groups_ * kTile + lane_;
        for (int64_t g = 0; g < groups_; ++g) {
            const float scale = half_as_float(scales[g * kTile]);
            for (int64_t line = 0; line < kGroup / 8; ++line, to += 8, codes += 4 * kTile)
                for (int64_t i = 0; i < 4; ++i) {
                    to[i] = static_cast<float>((codes[i] & 15) - 8) * scale;
                    to[4 + i] = static_cast<float>((codes[i] >> 4) - 8) * scale;
                }
        }
    }

    void read_int8(float* to) const {
        const auto* codes =
            static_cast<const int8_t*>(matrix_.codes) + tile_ * groups_ * kInt8TileGroupBytes + lane_ * 4;
        const float scale = static_cast<const float*>(matrix_.scales)[tile_ * kTile + lane_];
        for (int64_t i = 0; i < groups_ * kGroup; ++i)
            to[i] = static_cast<float>(codes[i / 4 * 4 * kTile + i % 4]) * scale;
    }

    void read_bf16(float* to) const {
        const auto* numbers = static_cast<const uint16_t*>(matrix_.codes) + row_ * k_;
        for (int64_t i = 0; i < k_; ++i) to[i] = as_float(numbers[i]);
    }

    const QuantMatrix& matrix_;
    int64_t k_, row_, tile_, lane_, groups_;
};

}  // namespace zaya
