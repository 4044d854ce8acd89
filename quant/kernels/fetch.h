// Asking memory for what is read later: where weights lie in pieces the processor by itself does not look far enough ahead.

#pragma once

#include <cstdint>

namespace zaya {

// One cache line, `bytes` behind an address and maybe behind all that is ours.
inline void fetch([[maybe_unused]] const void* at, [[maybe_unused]] int64_t bytes) {
#if defined(__GNUC__)  // clang too
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(at) + static_cast<uintptr_t>(bytes)));
#endif
}

}  // namespace zaya
