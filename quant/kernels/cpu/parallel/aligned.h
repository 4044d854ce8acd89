// Memory that begins at a cache line, so that no vector lies in two.
//
// A thread keeps the blocks that it frees: callers ask for the same sizes over and over, and the system's allocator,
// which merges and splits them, takes longer than some of the work in them. It keeps 4 MB at most.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace zaya {

// With any contents; to be given back by `free_aligned`, on any thread. Throws std::bad_alloc.
void* allocate_aligned(std::size_t bytes);
void free_aligned(void* memory);

struct AlignedDelete {
    void operator()(void* memory) const { free_aligned(memory); }
};

template <class T>
using Aligned = std::unique_ptr<T[], AlignedDelete>;

// count numbers, with any values
template <class T>
Aligned<T> aligned(int64_t count) {
    return Aligned<T>(static_cast<T*>(allocate_aligned(static_cast<std::size_t>(count) * sizeof(T))));
}

}  // namespace zaya
