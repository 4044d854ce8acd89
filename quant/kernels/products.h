// The C interface. All matrices are row-major and dense; see layout.h for the packed ones.

#pragma once

#include <cstdint>

#if defined(_WIN32)
#define ZAYA_API extern "C" __declspec(dllexport)
#else
#define ZAYA_API extern "C" __attribute__((visibility("default")))
#endif

// x (rows, k), sorted so that consecutive rows belong to consecutive groups: counts[i] rows to matrix i of `matrices`.
// y (rows, n) float32. k: a multiple of 64 (int4, int8) or 32 (bf16).
struct ZayaProduct {
    int32_t format;     // of the weights: 0 bf16, 1 int8, 2 int4
    int32_t x_is_bf16;  // else float32, which the product of bf16 weights rounds to bf16
    int32_t threads;
    const void* x;
    int64_t k;
    int64_t n;
    int64_t matrices;
    const int64_t* counts;
    const void* const* weights;  // packed codes, or bf16 rows
    const void* const* scales;   // null for bf16
    float* y;
};

// A matrix in the format that is given beside it: packed codes and scales, or bf16 rows and null.
struct ZayaMatrix {
    const void* codes;
    const void* scales;
};

// The OpenMP runtime's GOMP_parallel, or null.
ZAYA_API void zaya_use_parallel_region(void* region);

// Instruction sets of this build, best first: the name, or null past the end; and whether this processor has it.
ZAYA_API const char* zaya_instruction_set(int index);
ZAYA_API int zaya_is_supported(int index);
ZAYA_API int zaya_has_bf16(int index);              // products of bf16 weights
ZAYA_API int zaya_has_prompt_attention(int index);  // zaya_attend_prompt

ZAYA_API void zaya_multiply(int instruction_set, const ZayaProduct* product);
