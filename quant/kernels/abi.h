// The C interface of this room's products. All matrices are row-major and dense; gemm/layout.h has the packed ones.
//
// abi.py mirrors the structs. The version changes with any of them, so that a library that was built from others is
// refused.

#pragma once

#include <cstdint>

#if defined(_WIN32)
#define ZAYA_API extern "C" __declspec(dllexport)
#else
#define ZAYA_API extern "C" __attribute__((visibility("default")))
#endif

constexpr int kQuantAbiVersion = 1;

// An entry of a room's table of structs.
struct AbiStruct {
    const char* name;
    int64_t bytes;
};

// A matrix in the format that is given beside it: packed codes and scales, or bf16 rows and null.
struct QuantMatrix {
    const void* codes;
    const void* scales;
};

// A small float matrix (n, k) with its bias: panels [n/16][k][16] of bf16 or float32, so many as cover n.
struct QuantPanels {
    const void* weights;
    const float* bias;  // or null
    int32_t is_bf16;
    int64_t n, k;
};

// Grouped gemm: x (rows, k), sorted so that consecutive rows belong to consecutive groups: counts[i] rows to matrix i
// of `matrices`. y (rows, n) float32. k: a multiple of 64 (int4, int8) or 32 (bf16).
struct QuantGemm {
    int32_t format;     // of the weights: 0 bf16, 1 int8, 2 int4
    int32_t x_is_bf16;  // else float32, which the gemm of bf16 weights rounds to bf16
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

// Every struct above.
#define QUANT_ABI_STRUCTS(X) X(QuantMatrix) X(QuantPanels) X(QuantGemm)

ZAYA_API int quant_abi_version();
// The name and size of the index-th struct; null past the end.
ZAYA_API const char* quant_abi_struct(int index, int64_t* bytes);

// The OpenMP runtime's GOMP_parallel, or null.
ZAYA_API void quant_use_parallel_region(void* region);

// Instruction sets of this build, best first: the name, or null past the end; and whether this processor has it.
ZAYA_API const char* quant_instruction_set(int index);
ZAYA_API int quant_is_supported(int index);
ZAYA_API int quant_has_bf16(int index);  // gemm of bf16 weights

ZAYA_API void quant_gemm(int instruction_set, const QuantGemm* gemm);
