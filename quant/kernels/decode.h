// One new token a row from its id to its logits, in the C interface.

#pragma once

#include "layer.h"
#include "vocabulary.h"

// What layers of one kind of attention share: angles of the rotation and the first position seen.
struct ZayaAttentionKind {
    int64_t rotated;
    const float *cos, *sin;  // (positions, rotated), as many as any row has
    const int64_t* begin;    // (batch)
};

struct ZayaDecode {
    int32_t threads;
    int32_t is_bf16;  // the states' dtype, else float32
    int32_t format;   // of keys and values, as in ZayaKeyValues
    int64_t batch, layers;
    const ZayaEmbedding* embedding;
    const ZayaLayer* const* layer;
    const int32_t* kind;  // of each layer, in `kinds`
    const ZayaHead* head;
    const ZayaAttentionKind* kinds;
    const int64_t* ids;           // (batch)
    const void *tails, *delayed;  // (layers, batch, W, C), (layers, batch, G*K/2)
    void *new_tails, *new_delayed;
    void* const* storage;  // keys of each layer, then values, and int8 only, key scales and value scales
    int64_t block_size, most_blocks;
    const int64_t *slots, *tables, *end;
    int64_t* choices;  // (layers, batch)
    float* logits;     // (batch, V)
};

// 0 where an id is not one of the embedding's rows, before anything is written, else 1
ZAYA_API int zaya_decode(int instruction_set, const ZayaDecode* pass);
