// The packed layout, format_version 1. A tile is 16 rows of a matrix, a group 64 columns.
//
//   int4 codes   [N/16][K/64][8][16][4]  uint8: line c, row r, i holds columns 8c+i (low nibble) and 8c+4+i (high) of
//                                        the group, as value + 8
//   int4 scales  [N/16][K/64][16]        float16
//   int8 codes   [N/16][K/4][16][4]      int8: columns 4j+i of row r
//   int8 scales  [N]                     float32
//   bf16         [N][K]                  as stored in a checkpoint, row by row
//
// The 16 rows of a tile lie in the 16 lanes of a vector: a row's sum needs no shuffle and does not depend on how many
// rows of x there are, and memory is read in sequence.

#pragma once

#include <cstdint>

namespace zaya {

constexpr int64_t kTile = 16;
constexpr int64_t kGroup = 64;
constexpr int64_t kInt4TileGroupBytes = kTile * kGroup / 2;
constexpr int64_t kInt8TileGroupBytes = kTile * kGroup;

// Sums of a group's 64 codes: of the first two and of the last two of each four.
struct GroupSum {
    int16_t first, last;

    int32_t total() const { return first + last; }
};

// Rows of x quantized to int8, interleaved so that a gemm walks through all M of them with one pointer:
//   codes [K/4][M][4] int8, -127..127; scales [K/64][M]; sums [K/64][M]
struct QuantizedBlock {
    const int8_t* codes;
    const float* scales;
    const GroupSum* sums;
    int64_t groups;
    bool is_alone;  // no other rows are multiplied by the same weights
};

// A matrix (n, k). k: a multiple of 64, of bf16 of 32.
struct Weights {
    const void* codes;
    const void* scales;
};

// Tiles `begin` to `end` - 1 of a matrix.
struct TileRange {
    int64_t begin, end;
};

// Where the output of some tiles begins: rows `stride` apart, of which `valid` columns are left (of a padded matrix
// fewer than 16 a tile).
struct Output {
    float* y;
    int64_t stride;
    int64_t valid;

    // Further on in the same rows.
    Output from_column(int64_t column) const { return {y + column, stride, valid - column}; }
};

}  // namespace zaya
