// A parallel loop on the OpenMP runtime that the caller already has.
//
// The library links no OpenMP of its own: two runtimes in one process keep two pools of spinning threads on the same
// cores. The caller passes the address of its runtime's `GOMP_parallel` instead (libgomp, and LLVM's for Linux, have it).

#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

namespace zaya {

using ParallelRegion = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);

// With null (the initial state) loops run on plain threads started for each loop.
void use_parallel_region(ParallelRegion region);

// body(item) for every item in 0..items-1, each once, on up to `threads` threads; threads take the next item when free.
void parallel_for(int threads, int64_t items, const std::function<void(int64_t)>& body);

constexpr int64_t kRowsAtOnce = 8;  // of a step that is short for one row

// body(row) for every row, several of them as one item.
template <class Body>
void parallel_rows(int threads, int64_t rows, const Body& body) {
    parallel_for(threads, (rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](int64_t item) {
        for (int64_t row = item * kRowsAtOnce; row < std::min((item + 1) * kRowsAtOnce, rows); ++row) body(row);
    });
}

}  // namespace zaya
