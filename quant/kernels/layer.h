// Fused steps of one decoder layer, in the C interface (products.h says what a row and a matrix are).
//
// Activations are float32; query, key and value columns are rounded to the dtype of the cache where they are made, so that
// a prompt in one pass and in steps gives the same. Widths are multiples of 16, inputs of matrices of 64 (bf16: 32).
// N = batch * columns rows, the columns of one row of the batch together.

#pragma once

#include "products.h"

// A small float matrix (n, k) with its bias: panels [n/16][k][16] of bf16 or float32, so many as cover n.
struct ZayaPanels {
    const void* weights;
    const float* bias;  // or null
    int32_t is_bf16;
    int64_t n, k;
};

struct ZayaMerge {
    const float *branch_scale, *residual_scale, *constant;
};

struct ZayaLayer {
    int64_t hidden, query_heads, key_heads, head_dim;
    int32_t dense_format, expert_format;
    float rms_norm_eps, length_eps;

    const float* input_norm;
    ZayaMatrix q, k, v_current, v_delayed, o;
    const float *qkv_bias, *o_bias;  // or null
    int64_t depthwise_taps, grouped_taps;
    const float *depthwise_weight, *depthwise_bias;  // (taps, C), (C)
    ZayaPanels grouped;                              // of all heads, one after the other, n = C
    const float* head_scale;                         // (H + G)

    ZayaMerge attention_merge, mlp_merge;
    const float* post_attention_norm;
    ZayaPanels router_down, router_fc1, router_fc2, router_out;
    const float *router_states_scale, *router_norm, *balancing_biases;  // the scale is null in the first layer
    int64_t experts, expert_width;
    const ZayaMatrix *gate_up, *down;
    int32_t skip_keeps_input;
};

// From the residual stream to queries, keys and values, and the state after each row's last real column.
struct ZayaProjection {
    int32_t threads;
    int32_t is_bf16;  // the states' dtype, else float32
    int64_t batch, columns;
    const int64_t* lengths;  // real columns of each row
    const float* residual;   // (N, D)
    const void *tail, *delayed;  // (batch, W, C), (batch, G*K/2)
    void *new_tail, *new_delayed;
    int64_t rotated;
    const float *cos, *sin;      // (N, rotated)
    float *query, *key, *value;  // (N, H*K), (N, G*K), (N, G*K)
};

// One layer's keys and values of all rows, in blocks that lie as key_values.h says.
struct ZayaKeyValues {
    int32_t format;  // 0 float32, 1 bf16, 2 int8
    void *keys, *values;
    float *key_scales, *value_scales;  // int8 only: value = code * scale
    int64_t block_size, most_blocks;   // positions of a block, a multiple of 32; blocks of the longest row
    const int64_t* tables;             // (batch, most_blocks)
};

// One new token a row: its key and value go into the cache, its query sees positions begin..end-1.
struct ZayaAttention {
    int32_t threads;
    int64_t batch;
    const float *query, *key, *value;
    ZayaKeyValues cache;
    const int64_t *slots, *begin, *end;  // (batch)
    float* out;                          // (batch, H*K)
};

// The new tokens of a prompt: their keys and values go into the cache, as bf16 or int8, and each sees the last `window`
// positions up to its own, or all with 0. Where zaya_has_prompt_attention says so; head_dim a multiple of 32.
struct ZayaPromptAttention {
    int32_t threads;
    int64_t batch, columns;
    const float *query, *key, *value;  // (N, H*K), (N, G*K), (N, G*K)
    ZayaKeyValues cache;
    int64_t window;
    const int64_t *past, *lengths;  // (batch): positions before, real columns
    float* out;                     // (N, H*K): only real columns are written
};

// From the attention's output through its projection, both merges, the router and the experts.
struct ZayaMixture {
    int32_t threads;
    int32_t attention_is_bf16;
    int32_t has_state;  // whether `state` holds that of the layer before
    int64_t rows;
    const void* attention;  // (N, H*K)
    float *residual, *state;  // (N, D), (N, R): replaced
    int64_t* choice;          // (N): the expert of each row, or their number for none
};

ZAYA_API void zaya_project(int instruction_set, const ZayaLayer* layer, const ZayaProjection* pass);
ZAYA_API void zaya_attend(int instruction_set, const ZayaLayer* layer, const ZayaAttention* pass);
ZAYA_API void zaya_attend_prompt(int instruction_set, const ZayaLayer* layer, const ZayaPromptAttention* pass);
ZAYA_API void zaya_mix(int instruction_set, const ZayaLayer* layer, const ZayaMixture* pass);
