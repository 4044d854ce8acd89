// The paged K/V cache (ZayaPagedCache): where positions lie in its blocks, and writing.
//
// Gemms read them as they lie, so they lie as packed weights do, in words of 32 bits that hold `each` = 1 (float32), 2
// (bf16) or 4 (int8) numbers, sixteen words beside each other; every head of a block by itself:
//
//   keys    [block][G][block_size / 16][K / each][16][each]   16 positions by all numbers of the head
//   values  [block][G][K / 16][block_size / each][16][each]   16 numbers of the head by all positions
//   scales  [block][G][block_size]                            int8 only

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "quant/kernels/cpu/gemm/bits.h"
#include "zaya_core/kernels/abi.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"

namespace zaya {

class PagedCache {
public:
    PagedCache(const ZayaLayer& layer, const ZayaPagedCache& cache)
        : format(static_cast<KvFormat>(cache.format)), cache_(cache), heads_(layer.key_heads), width_(layer.head_dim) {}

    const KvFormat format;

    // The slot of a row's position among all of the storage's.
    int64_t slot_of(int64_t row, int64_t position) const {
        const int64_t block = cache_.tables[row * cache_.most_blocks + position / cache_.block_size];
        return block * cache_.block_size + position % cache_.block_size;
    }

    // One head's positions of a row from `at` to `end`, cut at the end of their block and at multiples of `most` in it.
    KvBlock block_at(int64_t row, int64_t head, int64_t at, int64_t end, int64_t most) const {
        const int64_t size = cache_.block_size, slot = slot_of(row, at), begin = slot % size;
        const int64_t stop = std::min({(begin / most + 1) * most, size, begin + end - at});
        const int64_t scales = (slot / size * heads_ + head) * size, numbers = scales * width_;
        const bool is_int8 = format == KvFormat::int8;
        return {format,
                number_at(cache_.keys, numbers),
                number_at(cache_.values, numbers),
                is_int8 ? cache_.key_scales + scales : nullptr,
                is_int8 ? cache_.value_scales + scales : nullptr,
                begin,
                stop,
                size};
    }

    // key, value (K): a position's of one head, to its slot.
    void append(const float* key, const float* value, int64_t slot, int64_t head) const {
        switch (format) {
            case KvFormat::float32: return append_as<float>(key, value, slot, head, [](float x) { return x; });
            case KvFormat::bf16: return append_as<uint16_t>(key, value, slot, head, to_bf16);
            case KvFormat::int8: return append_codes(key, value, slot, head);
        }
    }

private:
    const char* number_at(const void* storage, int64_t number) const {
        return static_cast<const char*>(storage) + number * bytes_of(format);
    }

    template <class T, class Round>
    void append_as(const float* key, const float* value, int64_t slot, int64_t head, const Round& round) const {
        put<T>(slot, head, [&](int64_t i) { return round(key[i]); }, [&](int64_t i) { return round(value[i]); });
    }

    void append_codes(const float* key, const float* value, int64_t slot, int64_t head) const {
        const int64_t size = cache_.block_size, at = (slot / size * heads_ + head) * size + slot % size;
        const float of_key = scale_of(key, cache_.key_scales + at),
                    of_value = scale_of(value, cache_.value_scales + at);
        put<int8_t>(
            slot, head, [&](int64_t i) { return code(key[i] * of_key); },
            [&](int64_t i) { return code(value[i] * of_value); });
    }

    // Stores a head's scale; returns what its numbers are multiplied by.
    float scale_of(const float* numbers, float* scale) const {
        float largest = 0.0f;
        for (int64_t i = 0; i < width_; ++i) largest = std::max(largest, std::fabs(numbers[i]));
        *scale = largest / 127.0f;
        return largest > 0.0f ? 127.0f / largest : 0.0f;
    }

    static int8_t code(float number) { return static_cast<int8_t>(std::nearbyint(number)); }

    template <class T, class Key, class Value>
    void put(int64_t slot, int64_t head, const Key& key, const Value& value) const {
        constexpr int64_t kEach = 4 / sizeof(T);
        const int64_t size = cache_.block_size, at = slot % size, begin = (slot / size * heads_ + head) * size * width_;
        T* keys = static_cast<T*>(cache_.keys) + begin + at / kTile * kTile * width_ + at % kTile * kEach;
        T* values = static_cast<T*>(cache_.values) + begin + at / kEach * kEach * kTile + at % kEach;
        for (int64_t i = 0; i < width_; ++i) keys[i / kEach * kEach * kTile + i % kEach] = key(i);
        for (int64_t i = 0; i < width_; ++i) values[i / kTile * kTile * size + i % kTile * kEach] = value(i);
    }

    const ZayaPagedCache& cache_;
    int64_t heads_, width_;
};

}  // namespace zaya
