// The packed layout, format_version 1. A tile is 16 rows of a matrix, a group 64 columns.
//
//   int4 codes   [N/16][K/64][8][16][4]  uint8: line c, row r, i holds columns 8c+i (low nibble) and 8c+4+i (high) of the
//                                        group, as value + 8
//   int4 scales  [N/16][K/64][16]        float16
//   int8 codes   [N/16][K/4][16][4]      int8: columns 4j+i of row r
//   int8 scales  [N]                     float32
//   bf16         [N][K]                  as stored in a checkpoint, row by row
//
// 16 rows lie in the 16 lanes of a vector: the sum of a row needs no shuffle, does not depend on how many rows of x there
// are, and memory is read in sequence, or in two sequences in turns.

#pragma once

#include <cstdint>

namespace zaya {

constexpr int64_t kTile = 16;
constexpr int64_t kGroup = 64;
constexpr int64_t kInt4TileGroupBytes = kTile * kGroup / 2;
constexpr int64_t kInt8TileGroupBytes = kTile * kGroup;

// Up to kRows rows of x beside each other, so that a product steps through all of them with one pointer:
//   codes [K/4][M][4] int8, -127..127; scales [K/64][M]; and what the sums of a group begin with (FloatSteps::quantize)
struct QuantizedBlock {
    const int8_t* codes;
    const float* scales;
    const int32_t* sums;
    int64_t groups;
    bool is_alone;  // no other rows are multiplied by the same weights
};

// A matrix (n, k). k: a multiple of 64, of bf16 of 32.
struct Weights {
    const void* codes;
    const void* scales;
};

// `count` tiles of a matrix, number `first` and others that lie each `apart` tiles behind the one before.
struct Tiles {
    int64_t first, count, apart;
};

// Where the output of a tile begins, and that of others further on: rows `stride` apart, of which `valid` columns are left (of a
// padded matrix fewer than 16 for the last tile).
struct OutputTile {
    float* y;
    int64_t stride;
    int64_t valid;
};

}  // namespace zaya
