// Floats as the bits they are stored in.

#pragma once

#include <cstdint>
#include <cstring>

namespace zaya {

inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float from_bits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline float as_float(float x) { return x; }
inline float as_float(uint16_t bf16) { return from_bits(static_cast<uint32_t>(bf16) << 16); }

// To nearest, ties to even.
inline uint16_t to_bf16(float x) {
    const uint32_t bits = bits_of(x);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace zaya
