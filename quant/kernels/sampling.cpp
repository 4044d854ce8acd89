#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "bits.h"
#include "instruction_set.h"
#include "parallel.h"

namespace zaya {
namespace {

constexpr int64_t kBlock = 4096;    // logits that one thread works on at a time
constexpr float kImpossible = 2e-38f;  // weights up to here, e^-87, are none
constexpr int64_t kParts = 4;          // of the row, counted one beside the other: so many whatever the threads
constexpr int64_t kStretch = 32;       // weights that are passed over together
constexpr int kChains = 8;             // of sums and comparisons that do not wait for each other

float largest_of(const float* x, int64_t n) {
    float most[kChains];
    std::fill_n(most, kChains, -INFINITY);
    int64_t i = 0;
    for (; i + kChains <= n; i += kChains)
        for (int c = 0; c < kChains; ++c) most[c] = most[c] < x[i + c] ? x[i + c] : most[c];
    for (; i < n; ++i) most[0] = std::max(most[0], x[i]);
    return *std::max_element(most, most + kChains);
}

// Whether any of kStretch weights is at least a bound.
bool reaches(const float* weights, float bound) {
    int32_t found = 0;
    for (int64_t i = 0; i < kStretch; ++i) found |= weights[i] >= bound;
    return found != 0;
}

// body(block, begin, end) for every block of n logits.
template <class Body>
void for_blocks(int threads, int64_t n, const Body& body) {
    parallel_for(threads, (n + kBlock - 1) / kBlock, [&](int64_t block) {
        body(static_cast<size_t>(block), block * kBlock, std::min((block + 1) * kBlock, n));
    });
}

// The sum of what is above a bound.
double sum_above(const float* x, int64_t n, float bound) {
    double sums[kChains] = {};
    int64_t i = 0;
    for (; i + kChains <= n; i += kChains)
        for (int c = 0; c < kChains; ++c) sums[c] += x[i + c] > bound ? x[i + c] : 0.0f;
    for (; i < n; ++i) sums[0] += x[i] > bound ? x[i] : 0.0f;
    return std::accumulate(sums, sums + kChains, 0.0);
}

// Where what is kept ends: weights above `value`, and of those equal to it, which differ in their logits where the temperature
// is high, the first `ties`: those of a logit above `logit`, and the first `late` of those equal to that, too.
struct Cut {
    float value;
    int64_t ties;
    float logit = -INFINITY;
    int64_t late = 0;
};

// How many of the ties that are kept a block has, and how many of these have the last logit.
struct Ties {
    int64_t all, late;
};

// How many more weights may be kept, and how much of them.
struct Room {
    int64_t count;
    double mass;
};

// Weights by some of their bits.
template <int N>
class Bins {
public:
    // Weight by weight, with a run in one bin summed up before it is added: equal weights would wait for each other.
    // No weight is in a bin before `lowest`.
    template <class BinOf>
    void fill(const float* weights, size_t n, const BinOf& bin_of, uint32_t lowest) {
        lowest_ = lowest;
        std::fill(bins_.begin() + lowest, bins_.end(), Bin{});
        Bin run = {};
        uint32_t at = lowest;
        for (size_t i = 0; i < n; ++i) {
            if (const uint32_t bin = bin_of(weights[i]); bin != at) {
                bins_[at] += run;
                run = {};
                at = bin;
            }
            run += {1, weights[i]};
        }
        bins_[at] += run;
    }
    void add(const Bins& others) {
        for (size_t i = lowest_; i < N; ++i) bins_[i] += others.bins_[i];
    }
    // From the largest down: takes the bins that are kept whole out of the room; the first that may not be, or -1.
    int64_t first_cut(Room& room) const {
        for (int64_t i = N - 1; i >= lowest_; --i) {
            const Bin& bin = bins_[static_cast<size_t>(i)];
            if (bin.count && (room.count <= bin.count || room.mass <= bin.sum)) return i;
            room.count -= bin.count;
            room.mass -= bin.sum;
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

// Some of the row's weights, and bins of them.
struct Part {
    Bins<0x3f81> upper;  // up to the upper half of the bits of 1
    Bins<256> lower;
    std::vector<float> kept;  // of which the first `count` are; never made smaller, which would clear them again
    size_t count = 0;

    // Keeps the weights not below a floor, by the upper half of their bits.
    void take(const float* weights, int64_t n, float floor) {
        kept.resize(std::max(kept.size(), static_cast<size_t>(n) + 1));
        count = 0;
        for (int64_t begin = 0; begin < n; begin += kStretch) {
            if (begin + kStretch <= n && !reaches(weights + begin, floor)) continue;
            keep(weights + begin, std::min(kStretch, n - begin), [floor](float weight) { return weight >= floor; });
        }
        upper.fill(kept.data(), count, [](float weight) { return bits_of(weight) >> 16; }, bits_of(floor) >> 16);
    }

    // Keeps the weights whose bits from shift + 8 on are those of `begin`, by the 8 bits from `shift` on.
    void narrow(uint32_t begin, int shift) {
        const auto n = static_cast<int64_t>(count);
        count = 0;
        keep(kept.data(), n, [=](float weight) { return (bits_of(weight) ^ begin) >> (shift + 8) == 0; });
        lower.fill(kept.data(), count, [shift](float weight) { return bits_of(weight) >> shift & 0xff; }, 0);
    }

private:
    // Appends those of some weights that are wanted.
    template <class IsWanted>
    void keep(const float* weights, int64_t n, const IsWanted& is_wanted) {
        for (int64_t i = 0; i < n; ++i) {
            const float weight = weights[i];
            kept[count] = weight;
            count += is_wanted(weight);
        }
    }
};

struct Parts {
    Part part[kParts];

    // Fills bins by fill(i, part) and joins them; see Bins::first_cut.
    template <auto kBins, class Fill>
    int64_t first_cut(int threads, Room& room, const Fill& fill) {
        parallel_for(threads, kParts, [&](int64_t i) { fill(i, part[i]); });
        auto& joined = part[0].*kBins;
        for (int64_t i = 1; i < kParts; ++i) joined.add(part[i].*kBins);
        return joined.first_cut(room);
    }
};

class Draw {
public:
    Draw(const InstructionSet& set, const ZayaDraw& draw, std::vector<float>& weights)
        : set_(set), draw_(draw), blocks_((draw.n + kBlock - 1) / kBlock), weights_(weights) {}

    int64_t run() {
        const double total = weigh();
        if (!std::isfinite(total)) return -1;
        Cut cut = find_cut(total);
        const std::vector<Ties> ties = share_ties(cut);
        return pick(cut, ties);
    }

private:
    // weights_ = p / max(p); returns their sum.
    double weigh() {
        weights_.resize(static_cast<size_t>(draw_.n));
        std::vector<float> largest(static_cast<size_t>(blocks_));
        for_blocks(draw_.threads, draw_.n, [&](size_t block, int64_t begin, int64_t end) {
            largest[block] = largest_of(draw_.logits + begin, end - begin);
        });
        const float most = *std::max_element(largest.begin(), largest.end());
        std::vector<double> sums(static_cast<size_t>(blocks_));
        for_blocks(draw_.threads, draw_.n, [&](size_t block, int64_t begin, int64_t end) {
            sums[block] = set_.steps.exponentials(draw_.logits + begin, end - begin, most, draw_.temperature, weights_.data() + begin);
        });
        double total = 0;
        for (double sum : sums) total += sum;
        return total;
    }

    // Exact, by bins of ever fewer of the weights' bits: floats above zero are ordered as their bits are, and nothing is sorted.
    Cut find_cut(double total) const {
        const float floor = std::max(draw_.min_p, std::nextafter(kImpossible, 1.0f));
        Room room = {draw_.top_k ? draw_.top_k : draw_.n, draw_.top_p < 1 ? draw_.top_p * total : INFINITY};
        if (!draw_.top_k && draw_.top_p >= 1) return {std::nextafter(floor, 0.0f), 0};
        thread_local Parts parts;  // kept: fresh memory costs more than the draw
        const int64_t high = parts.first_cut<&Part::upper>(draw_.threads, room, [&](int64_t i, Part& part) {
            const int64_t size = (draw_.n + kParts - 1) / kParts, begin = i * size;
            part.take(weights_.data() + begin, std::clamp<int64_t>(draw_.n - begin, 0, size), floor);
        });
        if (high < 0) return {std::nextafter(floor, 0.0f), 0};
        uint32_t begin = static_cast<uint32_t>(high) << 16;
        for (int shift = 8; shift >= 0; shift -= 8) {
            const int64_t bin = parts.first_cut<&Part::lower>(draw_.threads, room, [&](int64_t, Part& part) { part.narrow(begin, shift); });
            if (bin < 0) return {std::nextafter(from_bits(begin), 0.0f), 0};
            begin |= static_cast<uint32_t>(bin) << shift;
        }
        const double enough = std::ceil(room.mass / from_bits(begin));
        return {from_bits(begin), enough < static_cast<double>(room.count) ? std::max<int64_t>(static_cast<int64_t>(enough), 1) : room.count};
    }

    // In proportion to the weights that are kept, in the order of the ids.
    int64_t pick(const Cut& cut, const std::vector<Ties>& ties) const {
        std::vector<double> sums(static_cast<size_t>(blocks_));
        for_blocks(draw_.threads, draw_.n, [&](size_t block, int64_t begin, int64_t end) {
            sums[block] = static_cast<double>(ties[block].all) * cut.value + sum_above(weights_.data() + begin, end - begin, cut.value);
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

    // Of each block; finds out where the ties that are kept end.
    std::vector<Ties> share_ties(Cut& cut) const {
        std::vector<Ties> ties(static_cast<size_t>(blocks_), Ties{0, 0});
        if (cut.ties <= 0) return ties;
        for_blocks(draw_.threads, draw_.n, [&](size_t block, int64_t begin, int64_t end) {
            ties[block].all = std::count(weights_.begin() + begin, weights_.begin() + end, cut.value);
        });
        int64_t found = 0;
        for (const Ties& of_block : ties) found += of_block.all;
        if (found <= cut.ties) return ties;
        find_last_logit(cut, found);
        int64_t left = cut.late;
        for (size_t block = 0; block < ties.size(); ++block) {
            if (!ties[block].all) continue;
            const int64_t begin = static_cast<int64_t>(block) * kBlock;
            ties[block] = {0, 0};
            for (int64_t i = begin; i < std::min(begin + kBlock, draw_.n); ++i) {
                if (weights_[static_cast<size_t>(i)] != cut.value) continue;
                const bool is_late = draw_.logits[i] == cut.logit && ties[block].late < left;
                ties[block].all += is_late || draw_.logits[i] > cut.logit;
                ties[block].late += is_late;
            }
            left -= ties[block].late;
        }
        return ties;
    }

    // The order is that of the logits. found: how many weights equal the cut's, more than may be kept.
    void find_last_logit(Cut& cut, int64_t found) const {
        std::vector<float> logits;
        logits.reserve(static_cast<size_t>(found));
        for (int64_t i = 0; i < draw_.n; ++i)
            if (weights_[static_cast<size_t>(i)] == cut.value) logits.push_back(draw_.logits[i]);
        const auto last = logits.begin() + (cut.ties - 1);
        std::nth_element(logits.begin(), last, logits.end(), std::greater<float>());
        cut.logit = *last;
        cut.late = cut.ties - std::count_if(logits.begin(), last, [&](float logit) { return logit > cut.logit; });
    }

    int64_t pick_in(size_t block, const Cut& cut, Ties ties, double position) const {
        int64_t last = -1;
        const int64_t begin = static_cast<int64_t>(block) * kBlock;
        for (int64_t i = begin; i < std::min(begin + kBlock, draw_.n); ++i) {
            const float weight = weights_[static_cast<size_t>(i)];
            const auto is_kept_tie = [&] { return ties.all > 0 && (draw_.logits[i] > cut.logit || (draw_.logits[i] == cut.logit && ties.late-- > 0)); };
            if (!(weight > cut.value) && !(weight == cut.value && is_kept_tie())) continue;
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

// The largest of a block and the sum of the exponentials relative to it.
struct BlockSum {
    float most;
    double sum;
};

BlockSum sum_block(const InstructionSet& set, const float* logits, int64_t n) {
    const float most = largest_of(logits, n);
    float exponentials[kBlock];
    // Where nothing is larger, a difference is no number: these are all -inf, or there is none but NaN.
    if (most == -INFINITY) return {most, std::accumulate(logits, logits + n, 0.0) == -INFINITY ? 0.0 : NAN};
    return {most, set.steps.exponentials(logits, n, most, 1.0f, exponentials)};
}

double normalise(const InstructionSet& set, int threads, int64_t n, const float* logits, int64_t* likeliest) {
    std::vector<BlockSum> blocks(static_cast<size_t>((n + kBlock - 1) / kBlock));
    for_blocks(threads, n, [&](size_t block, int64_t begin, int64_t end) { blocks[block] = sum_block(set, logits + begin, end - begin); });
    const auto best = std::max_element(blocks.begin(), blocks.end(), [](const BlockSum& a, const BlockSum& b) { return a.most < b.most; });
    *likeliest = std::find(logits + (best - blocks.begin()) * kBlock, logits + n, best->most) - logits;
    double total = 0;
    for (const BlockSum& block : blocks) total += block.sum * std::exp(static_cast<double>(block.most) - best->most);
    return best->most + std::log(total);
}

}  // namespace
}  // namespace zaya

int64_t zaya_draw(int instruction_set, const ZayaDraw* draw) {
    thread_local std::vector<float> weights;  // kept, like the bins
    int64_t id = -1;
    zaya::with_team(draw->threads, [&] { id = zaya::Draw(zaya::instruction_set_at(instruction_set), *draw, weights).run(); });
    return id;
}

double zaya_normalise(int instruction_set, int32_t threads, int64_t n, const float* logits, int64_t* likeliest) {
    return zaya::normalise(zaya::instruction_set_at(instruction_set), threads, n, logits, likeliest);
}
