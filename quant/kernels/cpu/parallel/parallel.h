// Parallel loops on the OpenMP runtime that the caller already has.
//
// The library links no OpenMP of its own: two runtimes in one process keep two pools of spinning threads on the same
// cores. The caller passes the address of its runtime's `GOMP_parallel` instead (libgomp, and LLVM's for Linux, have
// it).

#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

namespace zaya {

using ParallelRegion = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);

// With null (the initial state) plain threads are started for each loop or team.
void use_parallel_region(ParallelRegion region);

// body(item) for every item in 0..items-1 (fewer than 2^31), each once, on up to `threads` threads or, below with_team,
// on all of the team; threads take the next item when free. The body starts no loop of its own.
void parallel_for(int threads, int64_t items, const std::function<void(int64_t)>& body);

// body() on this thread, with up to `threads` - 1 others that stay until it returns and join each parallel_for it
// calls. Between loops they wait without sleeping: there are hundreds of them, and to call threads together for each
// takes microseconds.
void with_team(int threads, const std::function<void()>& body);

constexpr int64_t kRowsAtOnce = 4;  // of work that is short for one row

// body(row) for every row, several of them as one item.
template <class Body>
void parallel_rows(int threads, int64_t rows, const Body& body) {
    parallel_for(threads, (rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](int64_t item) {
        for (int64_t row = item * kRowsAtOnce; row < std::min((item + 1) * kRowsAtOnce, rows); ++row) body(row);
    });
}

}  // namespace zaya
