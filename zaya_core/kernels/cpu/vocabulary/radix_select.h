// Radix select: the smallest of some weights that top-k and top-p keep, without sorting them.
//
// Floats above zero are ordered as their bits are, so histograms of ever fewer of the bits narrow the place down
// exactly.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "quant/kernels/cpu/gemm/bits.h"
#include "quant/kernels/cpu/parallel/parallel.h"

namespace zaya {

// Where what is kept ends: weights above `value`, and of those equal to it the first `ties`.
struct Threshold {
    float value;
    int64_t ties;
};

// How many more weights may be kept, and how much of them.
struct Budget {
    int64_t count;
    double mass;
};

// Weights by some of their bits.
template <int N>
class Histogram {
public:
    // Weight by weight; those in one bin after each other are summed up before they are added: equal weights would wait
    // for each other. No weight is in a bin before `lowest`.
    template <class BinOf>
    void fill(const float* weights, size_t n, const BinOf& bin_of, uint32_t lowest) {
        lowest_ = lowest;
        std::fill(bins_.begin() + lowest, bins_.end(), Bin{});
        Bin pending = {};
        uint32_t at = lowest;
        for (size_t i = 0; i < n; ++i) {
            if (const uint32_t bin = bin_of(weights[i]); bin != at) {
                bins_[at] += pending;
                pending = {};
                at = bin;
            }
            pending += {1, weights[i]};
        }
        bins_[at] += pending;
    }

    void add(const Histogram& other) {
        for (size_t i = lowest_; i < N; ++i) bins_[i] += other.bins_[i];
    }

    // From the largest down: takes the bins that are kept whole out of the budget; the first that may not be, or -1.
    int64_t first_cut(Budget& budget) const {
        for (int64_t i = N - 1; i >= lowest_; --i) {
            const Bin& bin = bins_[static_cast<size_t>(i)];
            if (bin.count && (budget.count <= bin.count || budget.mass <= bin.sum)) return i;
            budget.count -= bin.count;
            budget.mass -= bin.sum;
        }
        return -1;
    }

private:
    struct Bin {
        int64_t count;
        double sum;

        void operator+=(const Bin& other) {
            count += other.count;
            sum += other.sum;
        }
    };
    std::vector<Bin> bins_ = std::vector<Bin>(N);
    uint32_t lowest_ = 0;
};

// Some of the weights, and histograms of them.
class RadixPartition {
public:
    Histogram<0x3f81> upper;  // up to the upper half of the bits of 1
    Histogram<256> lower;

    // Keeps the weights not below a floor, by the upper half of their bits.
    void take(const float* weights, int64_t n, float floor) {
        kept_.resize(std::max(kept_.size(), static_cast<size_t>(n) + 1));
        count_ = 0;
        for (int64_t begin = 0; begin < n; begin += kScan) {
            if (begin + kScan <= n && !reaches(weights + begin, floor)) continue;
            keep(weights + begin, std::min(kScan, n - begin), [floor](float weight) { return weight >= floor; });
        }
        upper.fill(kept_.data(), count_, [](float weight) { return bits_of(weight) >> 16; }, bits_of(floor) >> 16);
    }

    // Keeps the weights whose bits from shift + 8 on are those of `begin`, by the 8 bits from `shift` on.
    void narrow(uint32_t begin, int shift) {
        const auto n = static_cast<int64_t>(count_);
        count_ = 0;
        keep(kept_.data(), n, [=](float weight) { return (bits_of(weight) ^ begin) >> (shift + 8) == 0; });
        lower.fill(kept_.data(), count_, [shift](float weight) { return bits_of(weight) >> shift & 0xff; }, 0);
    }

private:
    static constexpr int64_t kScan = 32;  // weights that are passed over together

    // Whether any of kScan weights is at least a bound.
    static bool reaches(const float* weights, float bound) {
        int32_t found = 0;
        for (int64_t i = 0; i < kScan; ++i) found |= weights[i] >= bound;
        return found != 0;
    }

    // Appends those of some weights that are wanted.
    template <class IsWanted>
    void keep(const float* weights, int64_t n, const IsWanted& is_wanted) {
        for (int64_t i = 0; i < n; ++i) {
            const float weight = weights[i];
            kept_[count_] = weight;
            count_ += is_wanted(weight);
        }
    }

    std::vector<float> kept_;  // of which the first `count_` are; never made smaller, which would clear them again
    size_t count_ = 0;
};

class RadixSelect {
public:
    // weights: 0 to 1; those below a floor above zero are not kept.
    Threshold select(const float* weights, int64_t n, float floor, Budget budget, int threads) {
        const int64_t high =
            first_cut<&RadixPartition::upper>(threads, budget, [&](int64_t i, RadixPartition& partition) {
                const int64_t size = (n + kPartitions - 1) / kPartitions, begin = i * size;
                partition.take(weights + begin, std::clamp<int64_t>(n - begin, 0, size), floor);
            });
        if (high < 0) return {std::nextafter(floor, 0.0f), 0};
        uint32_t begin = static_cast<uint32_t>(high) << 16;
        for (int shift = 8; shift >= 0; shift -= 8) {
            const int64_t bin = first_cut<&RadixPartition::lower>(
                threads, budget, [&](int64_t, RadixPartition& partition) { partition.narrow(begin, shift); });
            if (bin < 0) return {std::nextafter(from_bits(begin), 0.0f), 0};
            begin |= static_cast<uint32_t>(bin) << shift;
        }
        const double enough = std::ceil(budget.mass / from_bits(begin));
        const bool is_enough = enough < static_cast<double>(budget.count);
        return {from_bits(begin), is_enough ? std::max<int64_t>(static_cast<int64_t>(enough), 1) : budget.count};
    }

private:
    static constexpr int64_t kPartitions = 4;  // whatever the threads

    // Fills histograms by fill(i, partition) and joins them; see Histogram::first_cut.
    template <auto kHistogram, class Fill>
    int64_t first_cut(int threads, Budget& budget, const Fill& fill) {
        parallel_for(threads, kPartitions, [&](int64_t i) { fill(i, partitions_[i]); });
        auto& joined = partitions_[0].*kHistogram;
        for (int64_t i = 1; i < kPartitions; ++i) joined.add(partitions_[i].*kHistogram);
        return joined.first_cut(budget);
    }

    RadixPartition partitions_[kPartitions];
};

}  // namespace zaya
