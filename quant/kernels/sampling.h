// What becomes of the logits of a row, in the C interface (zaya_core/sampling/sampler.py has the definition of a draw).

#pragma once

#include "products.h"

struct ZayaDraw {
    int32_t threads;
    float temperature;  // above 0
    float top_p, min_p;
    int64_t top_k;  // 0: off
    double uniform;  // in [0, 1)
    int64_t n;
    const float* logits;
};

// The token drawn, or -1 where the logits are not numbers.
ZAYA_API int64_t zaya_draw(int instruction_set, const ZayaDraw* draw);
// log(sum(e^logits)), not finite where the logits are not numbers; `likeliest`: the id of the largest, of equals the first.
ZAYA_API double zaya_normalise(int instruction_set, int32_t threads, int64_t n, const float* logits, int64_t* likeliest);
