// The two ends of the model, in the C interface: from ids to the residual stream, and from there to logits.

#pragma once

#include "products.h"

// residual = (the id's row of the matrix + bias) * scale
struct ZayaEmbedding {
    int32_t format;
    int64_t hidden, vocabulary;
    ZayaMatrix matrix;
    const float *bias, *scale;  // (D)
};

// logits = the matrix (V, D) times the norm of the residual stream, plus the bias
struct ZayaHead {
    int32_t format;
    int32_t rounds_to_bf16;  // what the norm gives, as the model's dtype does
    int64_t hidden, vocabulary;
    float rms_norm_eps;
    const float* norm;
    ZayaMatrix matrix;
    const float* bias;  // or null
};

// ids (N) -> residual (N, D); 0 where an id is not one of the matrix's rows, else 1
ZAYA_API int zaya_embed(const ZayaEmbedding* embedding, int32_t threads, int64_t rows, const int64_t* ids, float* residual);
// residual (N, D) -> logits (N, V)
ZAYA_API void zaya_logits(int instruction_set, const ZayaHead* head, int32_t threads, int64_t rows, const float* residual, float* logits);
