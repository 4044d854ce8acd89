#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "instruction_set.h"
#include "parallel.h"

namespace zaya {
namespace {

constexpr int64_t kBlock = 4096;    // logits that one thread works on at a time
constexpr float kImpossible = 2e-38f;  // weights up to here, e^-87, are none

uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

float from_bits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// Where what is kept ends: weights above `value`, and the first `ties` of those equal to it.
struct Cut {
    float value;
    int64_t ties;
};

class Draw {
public:
    Draw(const InstructionSet& set, const ZayaDraw& draw, std::vector<float>& weights)
        : set_(set), draw_(draw), blocks_((draw.n + kBlock - 1) / kBlock), weights_(weights) {}

    int64_t run() {
        const double total = weigh();
        if (!std::isfinite(total)) return -1;
        const Cut cut = find_cut(total);
        return pick(cut);
    }

private:
    template <class Body>
    void for_blocks(const Body& body) const {
        parallel_for(draw_.threads, blocks_, [&](int64_t block) { body(block, block * kBlock, std::min((block + 1) * kBlock, draw_.n)); });
    }

    // weights_ = p / max(p); returns their sum.
    double weigh() {
        weights_.resize(static_cast<size_t>(draw_.n));
        std::vector<float> largest(static_cast<size_t>(blocks_));
        for_blocks([&](int64_t block, int64_t begin, int64_t end) {
            largest[static_cast<size_t>(block)] = *std::max_element(draw_.logits + begin, draw_.logits + end);
        });
        const float most = *std::max_element(largest.begin(), largest.end());
        std::vector<double> sums(static_cast<size_t>(blocks_));
        for_blocks([&](int64_t block, int64_t begin, int64_t end) {
            sums[static_cast<size_t>(block)] = set_.steps.exponentials(draw_.logits + begin, end - begin, most, draw_.temperature, weights_.data() + begin);
        });
        double total = 0;
        for (double sum : sums) total += sum;
        return total;
    }

    // Bins of the weights not below a floor, by 16 bits of them; floats above zero are ordered as their bits are.
    struct Bins {
        std::vector<int64_t> counts = std::vector<int64_t>(1 << 16);
        std::vector<double> sums = std::vector<double>(1 << 16);

        void clear() {
            std::fill(counts.begin(), counts.end(), 0);
            std::fill(sums.begin(), sums.end(), 0.0);
        }
        void add(uint32_t bin, float weight) {
            ++counts[bin];
            sums[bin] += weight;
        }
        // From the largest bin down: moves `left` and `mass` past all bins that are kept whole, and returns the first that
        // may not be; 0 if all are.
        uint32_t first_cut(int64_t& left, double& mass) const {
            for (uint32_t bin = (1 << 16) - 1; bin > 0; --bin) {
                if (left <= counts[bin] || mass <= sums[bin]) return bin;
                left -= counts[bin];
                mass -= sums[bin];
            }
            return 0;
        }
    };

    // Exact, in two rounds over the upper and the lower half of the weights' bits: nothing is sorted.
    Cut find_cut(double total) const {
        const float floor = std::max(draw_.min_p, std::nextafter(kImpossible, 1.0f));
        if (!draw_.top_k && draw_.top_p >= 1) return {std::nextafter(floor, 0.0f), 0};
        int64_t left = draw_.top_k ? draw_.top_k : draw_.n;
        double mass = draw_.top_p < 1 ? draw_.top_p * total : INFINITY;
        thread_local Bins upper, lower;  // kept: fresh memory costs more than the draw
        upper.clear();
        for (float weight : weights_)
            if (weight >= floor) upper.add(bits_of(weight) >> 16, weight);
        const uint32_t high = upper.first_cut(left, mass);
        if (high == 0) return {std::nextafter(floor, 0.0f), 0};
        lower.clear();
        for (float weight : weights_)
            if (weight >= floor && bits_of(weight) >> 16 == high) lower.add(bits_of(weight) & 0xffff, weight);
        return within(high, lower, left, mass);
    }

    Cut within(uint32_t high, const Bins& lower, int64_t left, double mass) const {
        for (int64_t low = 0xffff; low >= 0; --low) {
            const auto bin = static_cast<size_t>(low);
            if (lower.counts[bin] == 0) continue;
            const float value = from_bits(high << 16 | static_cast<uint32_t>(low));
            const auto enough = std::isfinite(mass) ? static_cast<int64_t>(std::ceil(mass / value)) : draw_.n;
            const int64_t kept = std::min(left, std::max<int64_t>(enough, 0));
            if (kept <= lower.counts[bin]) return {value, kept};
            left -= lower.counts[bin];
            mass -= lower.sums[bin];
        }
        return {from_bits(high << 16), 0};
    }

    // In proportion to the weights that are kept, in the order of the ids.
    int64_t pick(const Cut& cut) const {
        std::vector<int64_t> ties(static_cast<size_t>(blocks_));
        for_blocks([&](int64_t block, int64_t begin, int64_t end) {
            ties[static_cast<size_t>(block)] = std::count(weights_.begin() + begin, weights_.begin() + end, cut.value);
        });
        int64_t left = cut.ties;
        for (int64_t& of_block : ties) left -= of_block = std::min(of_block, left);
        std::vector<double> sums(static_cast<size_t>(blocks_));
        for_blocks([&](int64_t block, int64_t begin, int64_t end) {
            double sum = static_cast<double>(ties[static_cast<size_t>(block)]) * cut.value;
            for (int64_t i = begin; i < end; ++i) sum += weights_[static_cast<size_t>(i)] > cut.value ? weights_[static_cast<size_t>(i)] : 0.0f;
            sums[static_cast<size_t>(block)] = sum;
        });
        double kept = 0;
        for (double sum : sums) kept += sum;
        double position = draw_.uniform * kept;
        size_t last = 0;  // block with anything kept: rounding may take the position past its end
        for (size_t block = 0; block < sums.size(); ++block) {
            if (sums[block] <= 0) continue;
            last = block;
            if (position < sums[block]) return pick_in(block, cut, ties[block], position);
            position -= sums[block];
        }
        return pick_in(last, cut, ties[last], INFINITY);
    }

    int64_t pick_in(size_t block, const Cut& cut, int64_t ties, double position) const {
        int64_t last = -1;
        const int64_t begin = static_cast<int64_t>(block) * kBlock;
        for (int64_t i = begin; i < std::min(begin + kBlock, draw_.n); ++i) {
            const float weight = weights_[static_cast<size_t>(i)];
            if (!(weight > cut.value) && !(weight == cut.value && ties-- > 0)) continue;
            last = i;
            if (position < weight) return i;
            position -= weight;
        }
        return last;
    }

    const InstructionSet& set_;
    const ZayaDraw& draw_;
    int64_t blocks_;
    std::vector<float>& weights_;
};

}  // namespace
}  // namespace zaya

int64_t zaya_draw(int instruction_set, const ZayaDraw* draw) {
    thread_local std::vector<float> weights;  // kept, like the bins
    return zaya::Draw(zaya::instruction_set_at(instruction_set), *draw, weights).run();
}
