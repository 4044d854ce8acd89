#include "aligned.h"

#include <new>
#include <vector>

namespace zaya {
namespace {

constexpr std::align_val_t kCacheLine{64};
constexpr std::size_t kLeast = 1024, kMostKept = 8;  // bytes of the smallest blocks, and how many are kept of each size
#if defined(__SANITIZE_ADDRESS__)
constexpr int kSizes = 0;  // which watches where blocks end and how long they live
#else
constexpr int kSizes = 9;  // the largest kept: 256 KB
#endif

// In the cache line before a block: which size it has, kSizes for one that is not kept.
struct Header {
    int size;
};
constexpr std::size_t kHeader = 64;

void release(void* begin) { ::operator delete(begin, kCacheLine); }

struct KeptBlocks {
    std::vector<void*> of_size[kSizes + 1];  // the last: none

    ~KeptBlocks() {
        for (const auto& blocks : of_size)
            for (void* begin : blocks) release(begin);
    }
};

thread_local KeptBlocks kept;

}  // namespace

void* allocate_aligned(std::size_t bytes) {
    int size = 0;
    while (size < kSizes && kLeast << size < bytes) ++size;
    void* begin;
    if (size < kSizes && !kept.of_size[size].empty()) {
        begin = kept.of_size[size].back();
        kept.of_size[size].pop_back();
    } else {
        begin = ::operator new(kHeader + (size < kSizes ? kLeast << size : bytes), kCacheLine);
    }
    static_cast<Header*>(begin)->size = size;
    return static_cast<char*>(begin) + kHeader;
}

void free_aligned(void* memory) {
    void* begin = static_cast<char*>(memory) - kHeader;
    const int size = static_cast<Header*>(begin)->size;
    if (size < kSizes && kept.of_size[size].size() < kMostKept)
        kept.of_size[size].push_back(begin);
    else
        release(begin);
}

}  // namespace zaya
