// Where the positions of a row lie in the cache, for any pass with block_size, most_blocks and tables (layer.h).

#pragma once

#include <algorithm>

#include "instruction_set.h"

namespace zaya {

// Positions that lie side by side and are worked on together; such runs begin at its multiples.
template <class Pass>
int64_t run_length(const Pass& pass) {
    return std::min(pass.block_size, kMostPositions);
}

// The place of a row's position among all of the storage's.
template <class Pass>
int64_t slot_of(const Pass& pass, int64_t row, int64_t position) {
    const int64_t block = pass.tables[row * pass.most_blocks + position / pass.block_size];
    return block * pass.block_size + position % pass.block_size;
}

}  // namespace zaya
