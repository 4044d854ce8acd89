// Code for one instruction set: which ones this compiler can emit, and the region of a file that is compiled for one.
//
//   ZAYA_BEGIN_TARGET(ZAYA_AVX2)
//   #include "quant/kernels/cpu/gemm/int_gemm.inc"
//   ZAYA_END_TARGET
//
// A .inc file holds templates on a vector type. It includes only other .inc files, in any order, and puts everything
// into the unnamed namespace: a function with the same name in every set's object file would be merged into one that
// not every processor can run. For the same reason all ordinary headers, and the standard library's, come before the
// region: here.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "quant/kernels/cpu/gemm/bits.h"
#include "quant/kernels/cpu/gemm/layout.h"
#include "quant/kernels/cpu/parallel/prefetch.h"

#if defined(__x86_64__) && defined(__GNUC__)  // clang too
#include <cpuid.h>
#include <immintrin.h>
#define ZAYA_AVX2 "avx2,fma,f16c"
#define ZAYA_AVX512 "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,f16c"
#if defined(__clang__) ? __clang_major__ >= 13 : __GNUC__ >= 11  // the first that know it
#define ZAYA_AVXVNNI "avx2,fma,f16c,avxvnni"
#endif
#elif defined(__aarch64__) && defined(__GNUC__)
#include <arm_neon.h>
#if defined(__clang__)
#define ZAYA_NEON "dotprod"
#else
#define ZAYA_NEON "arch=armv8.2-a+dotprod"
#endif
#endif

#define ZAYA_PRAGMA(text) _Pragma(#text)

#if defined(__clang__)
#define ZAYA_BEGIN_TARGET(features) \
    ZAYA_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define ZAYA_END_TARGET ZAYA_PRAGMA(clang attribute pop)
#else
#define ZAYA_BEGIN_TARGET(features) ZAYA_PRAGMA(GCC push_options) ZAYA_PRAGMA(GCC target(features))
#define ZAYA_END_TARGET ZAYA_PRAGMA(GCC pop_options)
#endif
