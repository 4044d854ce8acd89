// AVX-512 with VNNI; with BF16 where the processor has it.

#include "instruction_set.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__) && defined(__GNUC__)  // clang too

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,f16c")
#endif

namespace zaya {
namespace {

struct Avx512 {
    static constexpr int kLanes = 16;
    static constexpr int kRows = 12;
    using Int = __m512i;
    using Float = __m512;
    using Bytes = __m512i;

    static Bytes load(const uint8_t* p) { return _mm512_loadu_si512(p); }
    static Bytes low_nibbles(Bytes b) { return _mm512_and_si512(b, _mm512_set1_epi8(15)); }
    static Bytes high_nibbles(Bytes b) { return low_nibbles(_mm512_srli_epi16(b, 4)); }
    // VNNI multiplies unsigned by signed bytes: the weights are moved up by 128, which the start of the sum takes back.
    static Bytes load_int8(const uint8_t* p) { return _mm512_xor_si512(load(p), _mm512_set1_epi8(-128)); }
    static Int start_int8(int32_t sum_of_x) { return splat(-128 * sum_of_x); }

    static Int splat(int32_t value) { return _mm512_set1_epi32(value); }
    static Int dot_int4(Int sum, Bytes w, const int8_t* x) {
        int32_t four;
        std::memcpy(&four, x, 4);
        return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(four));
    }
    static Int dot_int8(Int sum, Bytes w, const int8_t* x) { return dot_int4(sum, w, x); }
    static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }

    static Float splat(float value) { return _mm512_set1_ps(value); }
    static Float to_float(Int value) { return _mm512_cvtepi32_ps(value); }
    static Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float multiply_add(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
    static Float subtract(Float a, Float b) { return _mm512_sub_ps(a, b); }
    static Float divide(Float a, Float b) { return _mm512_div_ps(a, b); }
    static Float largest(Float a, Float b) { return _mm512_max_ps(a, b); }
    static Float power_of_two(Float n) { return _mm512_scalef_ps(splat(1.0f), n); }
    static Float load(const float* p) { return _mm512_loadu_ps(p); }
    static Float load_codes(const int8_t* p) {
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    }
    static Float load_bf16(const uint16_t* p) {
        const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
    static Float load_half(const uint16_t* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static void fold_rows(const float* rows, float* sums) {
        __m512 eight[8], four[4], two[2];
        for (int i = 0; i < 8; ++i) {  // rows j, j + 4, j + 8, j + 12 end in four[j]
            const __m512 a = load(rows + kTile * (i / 2 + 8 * (i % 2))), b = load(rows + kTile * (i / 2 + 8 * (i % 2) + 4));
            eight[i] = add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
        }
        for (int i = 0; i < 4; ++i)
            four[i] = add(_mm512_shuffle_f32x4(eight[2 * i], eight[2 * i + 1], 0x88), _mm512_shuffle_f32x4(eight[2 * i], eight[2 * i + 1], 0xdd));
        for (int i = 0; i < 2; ++i) {
            const __m512d a = _mm512_castps_pd(four[2 * i]), b = _mm512_castps_pd(four[2 * i + 1]);
            two[i] = add(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
        }
        store(add(_mm512_shuffle_ps(two[0], two[1], 0x88), _mm512_shuffle_ps(two[0], two[1], 0xdd)), sums, kLanes);
    }
    static void store(Float value, float* p, int64_t count) {
        if (count >= kLanes)
            _mm512_storeu_ps(p, value);
        else if (count > 0)
            _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), value);
    }
};

#include "float_lanes.h"
#include "attention_steps.h"
#include "float_steps.h"
#include "integer_tiles.h"

// 16 rows of 16 pairs of bf16 -> 16 vectors of one pair of each row.
void transpose(__m512i (&rows)[16]) {
    __m512i pairs[16], quads[16];
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        quads[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        quads[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        quads[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        quads[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        const __m512i a = _mm512_shuffle_i32x4(quads[i], quads[i + 4], 0x88);
        const __m512i b = _mm512_shuffle_i32x4(quads[i + 8], quads[i + 12], 0x88);
        const __m512i c = _mm512_shuffle_i32x4(quads[i], quads[i + 4], 0xdd);
        const __m512i d = _mm512_shuffle_i32x4(quads[i + 8], quads[i + 12], 0xdd);
        rows[i] = _mm512_shuffle_i32x4(a, b, 0x88);
        rows[i + 8] = _mm512_shuffle_i32x4(a, b, 0xdd);
        rows[i + 4] = _mm512_shuffle_i32x4(c, d, 0x88);
        rows[i + 12] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
}

struct Bf16Pairs {
    using X = uint16_t;
    static __m512 multiply_add(__m512 total, __m512i pairs, const X* x) {
        int32_t two;
        std::memcpy(&two, x, 4);
        return _mm512_dpbf16_ps(total, reinterpret_cast<__m512bh>(pairs), reinterpret_cast<__m512bh>(_mm512_set1_epi32(two)));
    }
    // total + 32 products along a row, in any lanes
    static __m512 along_row(__m512 total, const uint16_t* w, const X* x) {
        return _mm512_dpbf16_ps(total, reinterpret_cast<__m512bh>(_mm512_loadu_si512(w)),
                                reinterpret_cast<__m512bh>(_mm512_loadu_si512(x)));
    }
};

struct FloatPairs {
    using X = float;
    static __m512 multiply_add(__m512 total, __m512i pairs, const X* x) {
        const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
        const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
        return _mm512_fmadd_ps(odd, _mm512_set1_ps(x[1]), _mm512_fmadd_ps(even, _mm512_set1_ps(x[0]), total));
    }
    static __m512 widened(const uint16_t* w) {
        const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
    static __m512 along_row(__m512 total, const uint16_t* w, const X* x) {
        total = _mm512_fmadd_ps(widened(w), _mm512_loadu_ps(x), total);
        return _mm512_fmadd_ps(widened(w + 16), _mm512_loadu_ps(x + 16), total);
    }
};

constexpr int kBf16Rows = 16;
// Columns of a tile that are turned over at a time: 16 KB, half of the first-level cache.
constexpr int64_t kColumns = 512;
constexpr int64_t kAhead = 1024;  // columns

// What is multiplied next, fetched meanwhile: 16 rows are more streams than the processor follows by itself.
struct Upcoming {
    const uint16_t* w;
    int64_t k;

    void fetch(int64_t line) const {
        _mm_prefetch(reinterpret_cast<const char*>(w + line % kTile * k + line / kTile * 32), _MM_HINT_T0);
    }
};

// `pairs` pairs of columns of 16 rows of w, as vectors of one pair of each row.
void turn(const uint16_t* w, int64_t k, int64_t valid, int64_t pairs, __m512i* turned) {
    for (int64_t j = 0; j < pairs; j += 16) {
        __m512i block[16];
        for (int64_t r = 0; r < kTile; ++r) {
            block[r] = _mm512_loadu_si512(w + (r < valid ? r : 0) * k + 2 * j);
        }
        transpose(block);
        for (int i = 0; i < 16; ++i) turned[j + i] = block[i];
    }
}

template <class Pairs, int M>
void add_block(const typename Pairs::X* x, const __m512i* turned, int64_t pairs, const OutputTile& out, bool first,
               const Upcoming& next) {
    const auto mask = static_cast<__mmask16>(out.valid >= kTile ? 0xffff : (1u << out.valid) - 1);
    __m512 total[M];
    for (int m = 0; m < M; ++m)
        total[m] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, out.y + m * out.stride);
    for (int64_t j = 0; j < pairs; ++j, x += 2 * M) {
        next.fetch(j);
        for (int m = 0; m < M; ++m) total[m] = Pairs::multiply_add(total[m], turned[j], x + 2 * m);
    }
    for (int m = 0; m < M; ++m) _mm512_mask_storeu_ps(out.y + m * out.stride, mask, total[m]);
}

template <class Pairs, int M = kBf16Rows>
void add_rows(const typename Pairs::X* x, int64_t rows, const __m512i* turned, int64_t pairs, const OutputTile& out, bool first,
              const Upcoming& next) {
    if (rows == M)
        add_block<Pairs, M>(x, turned, pairs, out, first, next);
    else if constexpr (M > 1)
        add_rows<Pairs, M - 1>(x, rows, turned, pairs, out, first, next);
}

// One row of x: along one row of w after the other, which is how memory is read fastest.
template <class Pairs>
void multiply_one_row(const typename Pairs::X* x, int64_t k, const uint16_t* w, const OutputTile& out) {
    constexpr int kChains = 4;  // of additions that do not wait for each other
    for (int64_t r = 0; r < kTile && r < out.valid; ++r, w += k) {
        __m512 totals[kChains] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        int64_t c = 0;
        for (; c + 32 * kChains <= k; c += 32 * kChains)
            for (int i = 0; i < kChains; ++i) {
                totals[i] = Pairs::along_row(totals[i], w + c + 32 * i, x + c + 32 * i);
                _mm_prefetch(reinterpret_cast<const char*>(w + c + 32 * i + kAhead), _MM_HINT_T0);
            }
        for (; c < k; c += 32) totals[0] = Pairs::along_row(totals[0], w + c, x + c);
        out.y[r] = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(totals[0], totals[1]), _mm512_add_ps(totals[2], totals[3])));
    }
}

template <class Pairs>
void multiply_bf16_tile(const PairedRows& x, const uint16_t* w, const OutputTile& out) {
    const auto* values = static_cast<const typename Pairs::X*>(x.x);
    if (x.rows == 1) return multiply_one_row<Pairs>(values, x.k, w, out);
    alignas(64) __m512i turned[kColumns / 2];
    for (int64_t begin = 0; begin < x.k; begin += kColumns) {
        const int64_t pairs = (x.k - begin < kColumns ? x.k - begin : kColumns) / 2;
        const bool is_last = begin + kColumns >= x.k;
        const Upcoming next = {is_last ? w + kTile * x.k : w + begin + kColumns, x.k};
        turn(w + begin, x.k, out.valid, pairs, turned);
        for (int64_t row = 0; row < x.rows; row += x.block) {
            const int64_t count = x.rows - row < x.block ? x.rows - row : x.block;
            const OutputTile part = {out.y + row * out.stride, out.stride, out.valid};
            add_rows<Pairs>(values + row * x.k + begin * count, count, turned, pairs, part, begin == 0, next);
        }
    }
}

}  // namespace
}  // namespace zaya

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC reset_options
#endif

namespace zaya {
namespace {

bool has_vnni() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}
bool has_bf16() { return has_vnni() && __builtin_cpu_supports("avx512bf16"); }

}  // namespace

const InstructionSet* avx512bf16() {
    static const InstructionSet set = {"avx512bf16", has_bf16, Avx512::kRows, multiply_rows<Avx512, Int4<Avx512>>,
                                       multiply_rows<Avx512, Int8<Avx512>>, kBf16Rows, multiply_bf16_tile<Bf16Pairs>, false, float_steps<Avx512>()};
    return &set;
}

const InstructionSet* avx512vnni() {
    static const InstructionSet set = {"avx512vnni", has_vnni, Avx512::kRows, multiply_rows<Avx512, Int4<Avx512>>,
                                       multiply_rows<Avx512, Int8<Avx512>>, kBf16Rows, multiply_bf16_tile<FloatPairs>, true, float_steps<Avx512>()};
    return &set;
}

}  // namespace zaya

#else

namespace zaya {
const InstructionSet* avx512bf16() { return nullptr; }
const InstructionSet* avx512vnni() { return nullptr; }
}  // namespace zaya

#endif
