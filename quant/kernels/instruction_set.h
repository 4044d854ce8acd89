// What each instruction set's file provides, and how to ask for it.

#pragma once

#include <cstdint>

#include "layout.h"

namespace zaya {

// A block of `rows` rows of x by one tile, where `codes` and `scales` point.
using IntegerTile = void (*)(const QuantizedBlock& x, int64_t rows, const void* codes, const void* scales, const OutputTile& out);

// Blocks of x, one after the other, each [K/2][M][2] in bf16 or float32, all but the last with M = block.
struct PairedRows {
    const void* x;
    int64_t rows, block, k;
};

// The product by a tile of bf16 weights: out.valid (at most 16) rows, k (a multiple of 32) apart.
using Bf16Tile = void (*)(const PairedRows& x, const uint16_t* w, const OutputTile& out);

struct InstructionSet {
    const char* name;
    bool (*is_supported)();
    int64_t integer_rows;  // most rows in a block of an integer product
    IntegerTile int4;
    IntegerTile int8;
    int64_t bf16_rows;      // 0: no product of bf16 weights that is worth having
    Bf16Tile bf16;
    bool bf16_takes_float;  // x of the bf16 product is float32
};

// Best first; null where this build has no code for them.
const InstructionSet* avx512bf16();
const InstructionSet* avx512vnni();
const InstructionSet* avx2();
const InstructionSet* neon_dotprod();
const InstructionSet* portable();

}  // namespace zaya
