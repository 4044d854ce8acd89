// Software prefetch, for where the hardware prefetcher does not look far enough ahead.

#pragma once

#include <cstdint>

namespace zaya {

#if defined(__GNUC__)  // clang too
#define ZAYA_PREFETCH(at, bytes, locality)                                                                             \
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(at) + static_cast<uintptr_t>(bytes)), \
                       0, locality)
#else
#define ZAYA_PREFETCH(at, bytes, locality) static_cast<void>(at), static_cast<void>(bytes)
#endif

// One cache line, `bytes` behind an address and maybe behind all that is ours.
inline void prefetch(const void* at, int64_t bytes) { ZAYA_PREFETCH(at, bytes, 3); }

// The same for what is read once in a pass over the weights, past the larger caches: these keep what the next pass
// needs again, vectors and the interpreter, which otherwise comes from memory every time.
inline void prefetch_once(const void* at, int64_t bytes) { ZAYA_PREFETCH(at, bytes, 0); }

#undef ZAYA_PREFETCH

}  // namespace zaya
