// Arm NEON with the dot-product instructions.

#include "bits.h"
#include "fetch.h"
#include "instruction_set.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#if defined(__aarch64__)

#include <arm_neon.h>

#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

namespace zaya {
namespace {

struct NeonDotprod {
    static constexpr int kLanes = 4;
    static constexpr int kRows = 8;
    static constexpr int kParts = 1;
    static constexpr int kStreams = 1;
    static constexpr bool kHasDots = true;
    using Int = int32x4_t;
    using Float = float32x4_t;
    using Bytes = int8x16_t;

    static Bytes load(const uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }
    static Bytes low_nibbles(Bytes b) { return vandq_s8(b, vdupq_n_s8(15)); }
    static Bytes high_nibbles(Bytes b) { return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(b), 4)); }
    static Bytes load_int8(const uint8_t* p) { return load(p); }
    static Int start_int8(int32_t) { return vdupq_n_s32(0); }

    static Int splat(int32_t value) { return vdupq_n_s32(value); }
    static Int dot_int4(Int sum, Bytes w, const int8_t* x) {
        int32_t four;
        std::memcpy(&four, x, 4);
        return vdotq_s32(sum, w, vreinterpretq_s8_s32(vdupq_n_s32(four)));
    }
    static Int dot_int8(Int sum, Bytes w, const int8_t* x) { return dot_int4(sum, w, x); }
    static Int add(Int a, Int b) { return vaddq_s32(a, b); }

    static Int load_words(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p))); }
    static Int shift_left(Int words, int bits) { return vshlq_s32(words, vdupq_n_s32(bits)); }
    static Int upper_half(Int words) { return vandq_s32(words, vdupq_n_s32(static_cast<int32_t>(0xffff0000u))); }
    static Float as_floats(Int words) { return vreinterpretq_f32_s32(words); }

    static Float splat(float value) { return vdupq_n_f32(value); }
    static Float to_float(Int value) { return vcvtq_f32_s32(value); }
    static Float multiply(Float a, Float b) { return vmulq_f32(a, b); }
    static Float multiply_add(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
    static Float add(Float a, Float b) { return vaddq_f32(a, b); }
    static Float subtract(Float a, Float b) { return vsubq_f32(a, b); }
    static Float divide(Float a, Float b) { return vdivq_f32(a, b); }
    static Float largest(Float a, Float b) { return vmaxq_f32(a, b); }
    static bool any_above(Float a, Float b) { return vmaxvq_u32(vcgtq_f32(a, b)) != 0; }
    static Float power_of_two(Float n) {
        return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
    }
    static Float load(const float* p) { return vld1q_f32(p); }
    static Float load_bf16(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
    static Float load_half(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
    static void store(Float value, float* p, int64_t count) {
        if (count >= kLanes) {
            vst1q_f32(p, value);
        } else if (count > 0) {
            float lanes[kLanes];
            vst1q_f32(lanes, value);
            std::memcpy(p, lanes, static_cast<size_t>(count) * sizeof(float));
        }
    }
};

#include "float_lanes.h"
#include "code_products.h"
#include "attention_steps.h"
#include "float_steps.h"
#include "integer_tiles.h"

}  // namespace
}  // namespace zaya

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC reset_options
#endif

namespace zaya {
namespace {

bool has_dotprod() {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return true;  // every Arm machine of Apple's that runs this has them
#endif
}

}  // namespace

const InstructionSet* neon_dotprod() {
    static const InstructionSet set = {
        "neon_dotprod", has_dotprod, NeonDotprod::kRows, NeonDotprod::kStreams, multiply_rows<NeonDotprod, Int4<NeonDotprod>>,
                                       multiply_rows<NeonDotprod, Int8<NeonDotprod>>, nullptr, false, nullptr, float_steps<NeonDotprod>()};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const InstructionSet* neon_dotprod() { return nullptr; }
}  // namespace zaya

#endif
