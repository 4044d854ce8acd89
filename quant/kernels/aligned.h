// Memory that begins at a cache line, so that no vector lies in two.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace zaya {

constexpr std::align_val_t kCacheLine{64};

struct AlignedDelete {
    void operator()(void* memory) const { ::operator delete[](memory, kCacheLine); }
};

template <class T>
using Aligned = std::unique_ptr<T[], AlignedDelete>;

// count numbers, with any values
template <class T>
Aligned<T> aligned(int64_t count) {
    return Aligned<T>(static_cast<T*>(::operator new[](static_cast<std::size_t>(count) * sizeof(T), kCacheLine)));
}

}  // namespace zaya
