// Floats as the bits they are stored in.

#pragma once

#include <cmath>
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

// float16, to the same value.
inline float half_as_float(uint16_t half) {
    const int exponent = (half >> 10) & 31, fraction = half & 1023;
    float value;
    if (exponent == 31)
        value = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        value = std::ldexp(static_cast<float>(fraction), -24);
    else
        value = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    return half & 0x8000 ? -value : value;
}

}  // namespace zaya
