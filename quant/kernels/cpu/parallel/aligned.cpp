#include "quant/kernels/cpu/parallel/aligned.h"

#include <new>

namespace zaya {
namespace {

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ZAYA_ADDRESS_SANITIZER
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ZAYA_ADDRESS_SANITIZER
#endif

constexpr std::align_val_t kCacheLine{64};
constexpr std::size_t kLeast = 1024;  // bytes of the smallest blocks that are kept; each size is twice the one before
constexpr int kSizes = 9;             // the largest kept: 256 KB
#if defined(ZAYA_ADDRESS_SANITIZER)
constexpr int kMostKept = 0;  // the sanitizer watches only blocks that are freed
#else
constexpr int kMostKept = 8;  // of each size
#endif

// In the cache line before a block: which size it has, kSizes for one that is not kept.
struct Header {
    int size;
};
constexpr std::size_t kHeader = 64;

void release(void* begin) { ::operator delete(begin, kCacheLine); }

struct KeptBlocks {
    void* blocks[kSizes][kMostKept + 1];
    int count[kSizes] = {};

    ~KeptBlocks() {
        for (int size = 0; size < kSizes; ++size)
            while (count[size] > 0) release(blocks[size][--count[size]]);
    }
};

thread_local KeptBlocks kept;

int size_of(std::size_t bytes) {
    int size = kMostKept > 0 ? 0 : kSizes;
    while (size < kSizes && kLeast << size < bytes) ++size;
    return size;
}

}  // namespace

void* allocate_aligned(std::size_t bytes) {
    const int size = size_of(bytes);
    void* begin;
    if (size < kSizes && kept.count[size] > 0)
        begin = kept.blocks[size][--kept.count[size]];
    else
        begin = ::operator new(kHeader + (size < kSizes ? kLeast << size : bytes), kCacheLine);
    static_cast<Header*>(begin)->size = size;
    return static_cast<char*>(begin) + kHeader;
}

void free_aligned(void* memory) {
    void* begin = static_cast<char*>(memory) - kHeader;
    const int size = static_cast<Header*>(begin)->size;
    if (size < kSizes && kept.count[size] < kMostKept)
        kept.blocks[size][kept.count[size]++] = begin;
    else
        release(begin);
}

}  // namespace zaya
