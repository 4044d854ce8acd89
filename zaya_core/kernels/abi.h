// The C interface of the model's steps, on the matrices of quant/kernels/abi.h. The letters are those of
// zaya_core/__init__.py.
//
// Activations are float32; query, key and value columns are rounded to the dtype of the cache where they are made, so
// that a prompt in one pass and in steps gives the same. Widths are multiples of 16, inputs of matrices of 64 (bf16:
// 32). N = batch * columns rows, the columns of one row of the batch together.
//
// abi.py mirrors the structs. The version changes with any of them, so that a library that was built from others is
// refused.

#pragma once

#include "quant/kernels/abi.h"

constexpr int kZayaAbiVersion = 1;

// Residual stream = branch * branch_scale + (residual * residual_scale + constant).
struct ZayaMerge {
    const float *branch_scale, *residual_scale, *constant;
};

// Weights of one decoder layer.
struct ZayaLayer {
    int64_t hidden, query_heads, key_heads, head_dim;
    int32_t dense_format, expert_format;
    float rms_norm_eps, length_eps;

    const float* input_norm;
    QuantMatrix q, k, v_current, v_delayed, o;
    const float *qkv_bias, *o_bias;  // or null
    int64_t depthwise_taps, grouped_taps;
    const float *depthwise_weight, *depthwise_bias;  // (taps, C), (C)
    QuantPanels grouped;                             // of all heads, one after the other, n = C
    const float* head_scale;                         // (H + G)

    ZayaMerge attention_merge, mlp_merge;
    const float* post_attention_norm;
    QuantPanels router_down, router_fc1, router_fc2, router_out;
    const float *router_states_scale, *router_norm, *balancing_biases;  // the scale is null in the first layer
    int64_t experts, expert_width;
    const QuantMatrix *gate_up, *down;
    int32_t skip_keeps_input;
};

// CCA: from the residual stream to queries, keys and values, and the state after each row's last real column.
struct ZayaCca {
    int32_t threads;
    int32_t is_bf16;  // the states' dtype, else float32
    int64_t batch, columns;
    const int64_t* lengths;      // real columns of each row
    const float* residual;       // (N, D)
    const void *tail, *delayed;  // (batch, W, C), (batch, G*K/2)
    void *new_tail, *new_delayed;
    int64_t rotated;
    const float *cos, *sin;      // (N, rotated)
    float *query, *key, *value;  // (N, H*K), (N, G*K), (N, G*K)
};

// One layer's paged K/V cache, its blocks laid out as cpu/attention/paged_cache.h says.
struct ZayaPagedCache {
    int32_t format;  // 0 float32, 1 bf16, 2 int8
    void *keys, *values;
    float *key_scales, *value_scales;  // int8 only: value = code * scale
    int64_t block_size, most_blocks;   // positions of a block, a multiple of 32; blocks of the longest row
    const int64_t* tables;             // (batch, most_blocks)
};

// One new token a row: its key and value go into the cache, its query sees positions begin..end-1.
struct ZayaDecodeAttention {
    int32_t threads;
    int64_t batch;
    const float *query, *key, *value;
    ZayaPagedCache cache;
    const int64_t *slots, *begin, *end;  // (batch)
    float* out;                          // (batch, H*K)
};

// The new tokens of a prompt: their keys and values go into the cache, as bf16 or int8, and each sees the last `window`
// positions up to its own, or all with 0. Where zaya_has_prompt_attention says so; head_dim a multiple of 32.
struct ZayaPromptAttention {
    int32_t threads;
    int64_t batch, columns;
    const float *query, *key, *value;  // (N, H*K), (N, G*K), (N, G*K)
    ZayaPagedCache cache;
    int64_t window;
    const int64_t *past, *lengths;  // (batch): positions before, real columns
    float* out;                     // (N, H*K): only real columns are written
};

// From the attention's output through its projection, both merges, the router and the experts.
struct ZayaMoe {
    int32_t threads;
    int32_t attention_is_bf16;
    int32_t has_state;  // whether `state` holds that of the layer before
    int64_t rows;
    const void* attention;    // (N, H*K)
    float *residual, *state;  // (N, D), (N, R): replaced
    int64_t* choice;          // (N): the expert of each row, or their number for none
};

// residual = (the id's row of the matrix + bias) * scale
struct ZayaEmbedding {
    int32_t format;
    int64_t hidden, vocabulary;
    QuantMatrix matrix;
    const float *bias, *scale;  // (D)
};

// logits = the matrix (V, D) times the norm of the residual stream, plus the bias
struct ZayaHead {
    int32_t format;
    int32_t rounds_to_bf16;  // what the norm gives, as the model's dtype does
    int64_t hidden, vocabulary;
    float rms_norm_eps;
    const float* norm;
    QuantMatrix matrix;
    const float* bias;  // or null
};

// What layers of one kind of attention share: angles of the rotation and the first position seen.
struct ZayaAttentionKind {
    int64_t rotated;
    const float *cos, *sin;  // (positions, rotated), as many as any row has
    const int64_t* begin;    // (batch)
};

// A decode step: one new token a row from its id to its logits.
struct ZayaDecode {
    int32_t threads;
    int32_t is_bf16;  // the states' dtype, else float32
    int32_t format;   // of keys and values, as in ZayaPagedCache
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

// Sampling of one row (zaya_core/sampling/draw.py has the definition).
struct ZayaSample {
    int32_t threads;
    float temperature;  // above 0
    float top_p, min_p;
    int64_t top_k;   // 0: off
    double uniform;  // in [0, 1)
    int64_t n;
    const float* logits;
};

// Every struct above.
#define ZAYA_ABI_STRUCTS(X) \
    X(ZayaMerge)            \
    X(ZayaLayer)            \
    X(ZayaCca)              \
    X(ZayaPagedCache)       \
    X(ZayaDecodeAttention)  \
    X(ZayaPromptAttention)  \
    X(ZayaMoe)              \
    X(ZayaEmbedding)        \
    X(ZayaHead)             \
    X(ZayaAttentionKind)    \
    X(ZayaDecode)           \
    X(ZayaSample)

ZAYA_API int zaya_abi_version();
// The name and size of the index-th struct; null past the end.
ZAYA_API const char* zaya_abi_struct(int index, int64_t* bytes);

// Instruction sets that the model's steps were compiled for: the names of quant_instruction_set, in its order.
ZAYA_API const char* zaya_instruction_set(int index);
ZAYA_API int zaya_has_prompt_attention(int index);

ZAYA_API void zaya_cca(int instruction_set, const ZayaLayer* layer, const ZayaCca* pass);
ZAYA_API void zaya_decode_attention(int instruction_set, const ZayaLayer* layer, const ZayaDecodeAttention* pass);
ZAYA_API void zaya_prompt_attention(int instruction_set, const ZayaLayer* layer, const ZayaPromptAttention* pass);
ZAYA_API void zaya_moe(int instruction_set, const ZayaLayer* layer, const ZayaMoe* pass);

// ids (N) -> residual (N, D); 0 where an id is not one of the matrix's rows, else 1
ZAYA_API int zaya_embed(const ZayaEmbedding* embedding, int32_t threads, int64_t rows, const int64_t* ids,
                        float* residual);
// residual (N, D) -> logits (N, V)
ZAYA_API void zaya_logits(int instruction_set, const ZayaHead* head, int32_t threads, int64_t rows,
                          const float* residual, float* logits);
// 0 where an id is not one of the embedding's rows, before anything is written, else 1
ZAYA_API int zaya_decode(int instruction_set, const ZayaDecode* pass);

// The token sampled, or -1 where the logits are not numbers.
ZAYA_API int64_t zaya_sample(int instruction_set, const ZayaSample* sample);
// log(sum(e^logits)), not finite where the logits are not numbers; `likeliest`: the id of the largest, of equals the
// first.
ZAYA_API double zaya_logsumexp(int instruction_set, int32_t threads, int64_t n, const float* logits,
                               int64_t* likeliest);
