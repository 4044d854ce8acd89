// The products as a program, to run them under an emulator or a sanitizer.
//
//   products FORMAT INSTRUCTION_SET THREADS K N IS_BF16 COUNT...  < x, then codes and scales of each matrix  > y
//
// With `list` instead: the instruction sets that run here, one a line.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "quant/kernels/abi.h"

static std::vector<char> read(size_t bytes) {
    std::vector<char> data(bytes);
    if (std::fread(data.data(), 1, bytes, stdin) != bytes) std::exit(3);
    return data;
}

static int find(const char* name) {
    for (int i = 0; quant_instruction_set(i); ++i)
        if (!std::strcmp(quant_instruction_set(i), name) && quant_is_supported(i)) return i;
    std::exit(4);
}

int main(int count, char** words) {
    if (count == 2) {
        for (int i = 0; quant_instruction_set(i); ++i)
            if (quant_is_supported(i)) std::puts(quant_instruction_set(i));
        return 0;
    }
    const std::string format = words[1];
    QuantGemm gemm = {};
    gemm.threads = std::atoi(words[3]);
    gemm.k = std::atoll(words[4]);
    gemm.n = std::atoll(words[5]);
    gemm.x_is_bf16 = std::atoi(words[6]);
    std::vector<int64_t> counts;
    for (int i = 7; i < count; ++i) counts.push_back(std::atoll(words[i]));
    size_t rows = 0;
    for (int64_t c : counts) rows += static_cast<size_t>(c);

    const size_t k = static_cast<size_t>(gemm.k), n = static_cast<size_t>(gemm.n), padded = (n + 15) / 16 * 16;
    const size_t code_bytes = format == "bf16" ? n * k * 2 : format == "int8" ? padded * k : padded * k / 2;
    const size_t scale_bytes = format == "bf16" ? 0 : format == "int8" ? padded * 4 : padded * k / 64 * 2;
    const std::vector<char> x = read(rows * k * (gemm.x_is_bf16 ? 2 : 4));
    std::vector<std::vector<char>> kept;
    std::vector<const void*> weights, scales;
    for (size_t i = 0; i < counts.size(); ++i) {
        kept.push_back(read(code_bytes));
        weights.push_back(kept.back().data());
        kept.push_back(read(scale_bytes));
        scales.push_back(kept.back().data());
    }
    std::vector<float> y(rows * n);
    gemm.x = x.data();
    gemm.matrices = static_cast<int64_t>(counts.size());
    gemm.counts = counts.data();
    gemm.weights = weights.data();
    gemm.scales = scales.data();
    gemm.y = y.data();
    const int set = find(words[2]);
    gemm.format = format == "bf16" ? 0 : format == "int8" ? 1 : 2;
    quant_gemm(set, &gemm);
    std::fwrite(y.data(), sizeof(float), y.size(), stdout);
}
