// Plain C++ for any other processor, and the yardstick of the others.

#include "bits.h"
#include "fetch.h"
#include "instruction_set.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>

namespace zaya {
namespace {

struct Portable {
    static constexpr int kLanes = 1;
    static constexpr int kRows = 4;
    static constexpr int kParts = 1;
    static constexpr int kStreams = 1;
    static constexpr bool kHasDots = true;
    using Int = int32_t;
    using Float = float;
    using Bytes = std::array<uint8_t, 4>;

    static Bytes load(const uint8_t* p) { return {p[0], p[1], p[2], p[3]}; }
    static Bytes low_nibbles(Bytes b) {
        for (uint8_t& byte : b) byte &= 15;
        return b;
    }
    static Bytes high_nibbles(Bytes b) {
        for (uint8_t& byte : b) byte >>= 4;
        return b;
    }
    static Bytes load_int8(const uint8_t* p) { return load(p); }
    static Int start_int8(int32_t) { return 0; }

    static Int splat(int32_t value) { return value; }
    static Int dot_int4(Int sum, Bytes w, const int8_t* x) {
        for (int i = 0; i < 4; ++i) sum += w[i] * x[i];
        return sum;
    }
    static Int dot_int8(Int sum, Bytes w, const int8_t* x) {
        for (int i = 0; i < 4; ++i) sum += static_cast<int8_t>(w[i]) * x[i];
        return sum;
    }
    static Int add(Int a, Int b) { return a + b; }

    static Int load_words(const void* p) {
        Int word;
        std::memcpy(&word, p, sizeof word);
        return word;
    }
    static Int shift_left(Int word, int bits) { return static_cast<Int>(static_cast<uint32_t>(word) << bits); }
    static Int upper_half(Int word) { return static_cast<Int>(static_cast<uint32_t>(word) & 0xffff0000u); }
    static Float as_floats(Int word) { return from_bits(static_cast<uint32_t>(word)); }

    static Float splat(float value) { return value; }
    static Float to_float(Int value) { return static_cast<float>(value); }
    static Float multiply(Float a, Float b) { return a * b; }
    static Float multiply_add(Float a, Float b, Float c) { return std::fma(a, b, c); }
    static Float add(Float a, Float b) { return a + b; }
    static Float subtract(Float a, Float b) { return a - b; }
    static Float divide(Float a, Float b) { return a / b; }
    static Float largest(Float a, Float b) { return a > b ? a : b; }
    static bool any_above(Float a, Float b) { return a > b; }
    static Float power_of_two(Float n) { return std::ldexp(1.0f, static_cast<int>(n)); }
    static Float load(const float* p) { return *p; }
    static Float load_bf16(const uint16_t* p) { return as_float(*p); }
    static Float load_half(const uint16_t* p) { return half_as_float(*p); }
    static void store(Float value, float* p, int64_t count) {
        if (count > 0) *p = value;
    }
};

#include "float_lanes.h"
#include "code_products.h"
#include "attention_steps.h"
#include "float_steps.h"
#include "integer_tiles.h"
#include "bf16_rows.h"

// In float32 with the sums of the other instruction sets: x holds of each 32 columns the even ones, then the odd ones.
struct PortableRows {
    using X = float;
    static constexpr int kRows = 1;

    static float product(const X* x, int64_t k, const uint16_t* w) {
        float lanes[kTile] = {}, quarters[4];
        for (int64_t c = 0; c < k; c += 32)
            for (int i = 0; i < 32; ++i) lanes[i % kTile] = std::fma(as_float(w[c + i % kTile * 2 + i / kTile]), x[c + i], lanes[i % kTile]);
        for (int q = 0; q < 4; ++q) quarters[q] = (lanes[4 * q] + lanes[4 * q + 2]) + (lanes[4 * q + 1] + lanes[4 * q + 3]);
        return (quarters[0] + quarters[2]) + (quarters[1] + quarters[3]);
    }

    template <int M, int kFetched>
    static void multiply_block(const X* x, int64_t k, const uint16_t* w, int64_t stride, const uint16_t*, const OutputTile& out) {
        for (int64_t n = 0; n < kWeightRows && n < out.valid; ++n) out.y[n] = product(x, k, w + n * stride);
    }
};

}  // namespace

const InstructionSet* portable() {
    static const InstructionSet set = {
        "portable", [] { return true; }, Portable::kRows, Portable::kStreams, multiply_rows<Portable, Int4<Portable>>,
                                       multiply_rows<Portable, Int8<Portable>>, multiply_bf16_tile<PortableRows>, true, nullptr, float_steps<Portable>()};
    return &set;
}

}  // namespace zaya
