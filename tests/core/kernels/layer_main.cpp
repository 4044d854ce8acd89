// The native steps of a made-up layer as a program, to run them under an emulator or a sanitizer.
//
//   layer INSTRUCTION_SET THREADS CACHE_FORMAT  > all that the steps write   (formats: 0 float32, 1 bf16, 2 int8)

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "zaya_core/kernels/abi.h"

namespace {

constexpr int64_t kHidden = 64, kHeads = 4, kKeyHeads = 2, kHeadDim = 16, kExperts = 3, kWidth = 64, kRouter = 16;
constexpr int64_t kChannels = (kHeads + kKeyHeads) * kHeadDim, kKeys = kKeyHeads * kHeadDim, kTail = 2;
constexpr int64_t kBatch = 2, kColumns = 3, kBlock = 32, kBlocks = 6;

uint32_t state = 1;
uint32_t random_bits() { return state = state * 1664525u + 1013904223u; }
float random_float(float size) { return (static_cast<float>(random_bits() >> 8) / 8388608.0f - 1.0f) * size; }

std::deque<std::vector<float>> kept_floats;
std::deque<std::vector<uint8_t>> kept_bytes;

float* floats(int64_t count, float size = 1.0f) {
    auto& values = kept_floats.emplace_back(static_cast<size_t>(count));
    for (float& value : values) value = random_float(size);
    return values.data();
}

void* bytes(int64_t count, bool is_random) {
    auto& values = kept_bytes.emplace_back(static_cast<size_t>(count));
    for (uint8_t& value : values) value = is_random ? static_cast<uint8_t>(random_bits() >> 24) : 0;
    return values.data();
}

// Zeros of the cache's dtype.
void* zeros(int64_t count) { return bytes(count * 4, false); }

QuantMatrix int8_matrix(int64_t n, int64_t k) { return {bytes(n * k, true), floats(n, 0.01f)}; }

QuantMatrix int4_matrix(int64_t n, int64_t k) {
    auto* scales = static_cast<uint8_t*>(bytes(n * k / 64 * 2, true));
    for (int64_t i = 1; i < n * k / 64 * 2; i += 2) scales[i] = 0x24;  // halves around 0.016
    return {bytes(n * k / 2, true), scales};
}

QuantPanels panels(int64_t n, int64_t k, bool has_bias) {
    const int64_t padded = (n + 15) / 16 * 16;
    return {floats(padded * k, 0.2f), has_bias ? floats(padded) : nullptr, 0, n, k};
}

ZayaMerge merge() { return {floats(kHidden), floats(kHidden), floats(kHidden)}; }

ZayaLayer made_up_layer() {
    ZayaLayer layer = {};
    layer.hidden = kHidden, layer.query_heads = kHeads, layer.key_heads = kKeyHeads, layer.head_dim = kHeadDim;
    layer.dense_format = 1, layer.expert_format = 2;
    layer.rms_norm_eps = 1e-5f, layer.length_eps = 1e-7f;
    layer.input_norm = floats(kHidden);
    layer.q = int8_matrix(kHeads * kHeadDim, kHidden), layer.k = int8_matrix(kKeys, kHidden);
    layer.v_current = int8_matrix(kKeys / 2, kHidden), layer.v_delayed = int8_matrix(kKeys / 2, kHidden);
    layer.o = int8_matrix(kHidden, kHeads * kHeadDim);
    layer.qkv_bias = floats(kChannels + kKeys), layer.o_bias = floats(kHidden);
    layer.depthwise_taps = 2, layer.grouped_taps = 2;
    layer.depthwise_weight = floats(2 * kChannels), layer.depthwise_bias = floats(kChannels);
    layer.grouped = panels(kChannels, 2 * kHeadDim, true);
    layer.head_scale = floats(kHeads + kKeyHeads, 4.0f);
    layer.attention_merge = merge(), layer.mlp_merge = merge();
    layer.post_attention_norm = floats(kHidden);
    layer.router_down = panels(kRouter, kHidden, true), layer.router_fc1 = panels(kRouter, kRouter, true);
    layer.router_fc2 = panels(kRouter, kRouter, true), layer.router_out = panels(kExperts + 1, kRouter, false);
    layer.router_states_scale = floats(kRouter), layer.router_norm = floats(kRouter),
    layer.balancing_biases = floats(kExperts + 1, 0.2f);
    layer.experts = kExperts, layer.expert_width = kWidth;
    static std::vector<QuantMatrix> gate_up, down;
    for (int64_t i = 0; i < kExperts; ++i) {
        gate_up.push_back(int4_matrix(2 * kWidth, kHidden));
        down.push_back(int4_matrix(kHidden, kWidth));
    }
    layer.gate_up = gate_up.data(), layer.down = down.data();
    layer.skip_keeps_input = 1;
    return layer;
}

void print(const void* values, int64_t count) { std::fwrite(values, 1, static_cast<size_t>(count), stdout); }

// A prompt's attention, for the sanitizers alone: its bits depend on the instruction set. Two rows of 70 and 5 new
// tokens behind 9 and 30 positions, in eight blocks.
void prompt_attention(int set, int threads, int format, int64_t block_size, int64_t query_heads, int64_t key_heads,
                      int64_t width) {
    constexpr int64_t kMostBlocks = 4, kNew = 70;
    ZayaLayer layer = {};
    layer.query_heads = query_heads, layer.key_heads = key_heads, layer.head_dim = width;
    const int64_t heads = 8 * block_size * key_heads, tables[] = {7, 1, 5, 3, 6, 0, 0, 0}, past[] = {9, 30},
                  lengths[] = {kNew, 5};
    std::vector<char> keys(static_cast<size_t>(heads * width * (format == 1 ? 2 : 1))), values(keys);
    std::vector<float> scales(static_cast<size_t>(heads), 0.5f);
    std::vector<float> out(static_cast<size_t>(2 * kNew * query_heads * width));
    const ZayaPagedCache cache = {format,        keys.data(), values.data(), scales.data(),
                                  scales.data(), block_size,  kMostBlocks,   tables};
    const ZayaPromptAttention pass = {threads,
                                      2,
                                      kNew,
                                      floats(static_cast<int64_t>(out.size())),
                                      floats(2 * kNew * key_heads * width),
                                      floats(2 * kNew * key_heads * width),
                                      cache,
                                      40,
                                      past,
                                      lengths,
                                      out.data()};
    zaya_prompt_attention(set, &layer, &pass);
}

}  // namespace

int main(int, char** words) {
    int set = 0;
    while (std::strcmp(quant_instruction_set(set), words[1])) ++set;
    const int threads = std::atoi(words[2]), format = std::atoi(words[3]), is_bf16 = format != 0,
              bytes_each = is_bf16 ? 2 : 4;
    const ZayaLayer layer = made_up_layer();
    constexpr int64_t rows = kBatch * kColumns;
    const int64_t lengths[] = {3, 1};

    float* residual = floats(rows * kHidden, 3.0f);
    float *query = floats(rows * kHeads * kHeadDim), *key = floats(rows * kKeys), *value = floats(rows * kKeys);
    const int64_t tail_size = kBatch * kTail * kChannels, delayed_size = kBatch * kKeys / 2;
    void *tail = zeros(tail_size), *delayed = zeros(delayed_size), *new_tail = zeros(tail_size),
         *new_delayed = zeros(delayed_size);
    ZayaCca cca = {threads,  is_bf16,     kBatch, kColumns,         lengths,          residual, tail, delayed,
                   new_tail, new_delayed, 8,      floats(rows * 8), floats(rows * 8), query,    key,  value};
    zaya_cca(set, &layer, &cca);
    print(query, rows * kHeads * kHeadDim * 4), print(key, rows * kKeys * 4), print(value, rows * kKeys * 4);
    print(new_tail, tail_size * bytes_each), print(new_delayed, delayed_size * bytes_each);

    // The first columns of both rows as tokens on their own, behind 65 positions of zeros, of which 6 are hidden, and
    // 1.
    void *keys = zeros(kBlocks * kBlock * kKeys), *values = zeros(kBlocks * kBlock * kKeys);
    float *key_scales = floats(kBlocks * kBlock * kKeyHeads), *value_scales = floats(kBlocks * kBlock * kKeyHeads);
    const int64_t slots[] = {4 * kBlock + 1, 2 * kBlock + 1}, tables[] = {1, 3, 4, 2, 0, 0}, begin[] = {6, 0},
                  end[] = {66, 2};
    float* attended = floats(kBatch * kHeads * kHeadDim);
    const ZayaPagedCache cache = {format, keys, values, key_scales, value_scales, kBlock, 3, tables};
    const ZayaDecodeAttention attention = {threads, kBatch, query, key, value, cache, slots, begin, end, attended};
    zaya_decode_attention(set, &layer, &attention);
    print(attended, kBatch * kHeads * kHeadDim * 4), print(keys, kBlocks * kBlock * kKeys),
        print(key_scales, kBlocks * kBlock * kKeyHeads * 4);

    float* router_state = floats(rows * kRouter);
    std::vector<int64_t> choice(rows);
    const ZayaMoe moe = {threads, 0, 1, rows, query, residual, router_state, choice.data()};
    zaya_moe(set, &layer, &moe);
    print(residual, rows * kHidden * 4), print(router_state, rows * kRouter * 4), print(choice.data(), rows * 8);

    // The vocabulary, its last tile cut short.
    constexpr int64_t kWords = 40, kPadded = 48;
    const QuantMatrix bf16 = {zeros(kWords * kHidden), nullptr};
    const QuantMatrix vocabularies[] = {bf16, int8_matrix(kPadded, kHidden), int4_matrix(kPadded, kHidden)};

    // The next tokens through the layer twice.
    const ZayaLayer* const layers[] = {&layer, &layer};
    const int32_t kind_of[] = {0, 1};
    const int64_t nothing_hidden[] = {0, 0}, next_slots[] = {4 * kBlock + 2, 2 * kBlock + 2}, next_end[] = {67, 3};
    const ZayaAttentionKind kinds[] = {{8, floats(67 * 8), floats(67 * 8), begin},
                                       {4, floats(67 * 4), floats(67 * 4), nothing_hidden}};
    void* const storage[] = {keys, keys, values, values, key_scales, key_scales, value_scales, value_scales};
    void *tails = zeros(2 * tail_size), *delayeds = zeros(2 * delayed_size), *new_tails = zeros(2 * tail_size),
         *new_delayeds = zeros(2 * delayed_size);
    int64_t choices[2 * kBatch];
    float* next_logits = floats(kBatch * kWords);
    const ZayaEmbedding first = {1, kHidden, kWords, vocabularies[1], floats(kHidden), floats(kHidden)};
    const ZayaHead last = {2, is_bf16, kHidden, kWords, 1e-5f, floats(kHidden), vocabularies[2], nullptr};
    int64_t next_ids[] = {39, 40};
    const ZayaDecode decode = {threads, is_bf16, format,     kBatch, 2,        &first,    layers,       kind_of,
                               &last,   kinds,   next_ids,   tails,  delayeds, new_tails, new_delayeds, storage,
                               kBlock,  3,       next_slots, tables, next_end, choices,   next_logits};
    if (zaya_decode(set, &decode)) return 1;
    next_ids[1] = 7;
    if (!zaya_decode(set, &decode)) return 1;
    print(next_logits, kBatch * kWords * 4), print(new_tails, 2 * tail_size * bytes_each),
        print(new_delayeds, 2 * delayed_size * bytes_each);
    print(choices, sizeof choices);

    for (int32_t i = 0; i < 3; ++i) {
        const ZayaEmbedding embedding = {i, kHidden, kWords, vocabularies[i], floats(kHidden), floats(kHidden)};
        const int64_t ids[] = {39, 0, 17}, no_ids[] = {0, 40, 1};
        float *embedded = floats(3 * kHidden), *logits = floats(3 * kWords);
        if (!zaya_embed(&embedding, threads, 3, ids, embedded) || zaya_embed(&embedding, threads, 3, no_ids, embedded))
            return 1;
        print(embedded, 3 * kHidden * 4);
        if (i == 0) continue;
        const ZayaHead head = {i, is_bf16, kHidden, kWords, 1e-5f, floats(kHidden), vocabularies[i], floats(kWords)};
        zaya_logits(set, &head, threads, 3, embedded, logits);
        print(logits, 3 * kWords * 4);
    }

    if (zaya_has_prompt_attention(set) && is_bf16) {
        prompt_attention(set, threads, format, 96, 3, 1, 32);  // blocks that do not hold whole runs
        prompt_attention(set, threads, format, 256, 4, 2, 64);
    }
}
