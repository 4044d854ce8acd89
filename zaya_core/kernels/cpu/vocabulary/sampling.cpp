// Sampling: temperature, min-p, top-k and top-p, and the log-sum-exp of a row of logits.

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "quant/kernels/cpu/parallel/parallel.h"
#include "zaya_core/kernels/abi.h"
#include "zaya_core/kernels/cpu/sets/step_set.h"
#include "zaya_core/kernels/cpu/vocabulary/radix_select.h"

namespace zaya {
namespace {

constexpr int64_t kBlock = 4096;       // logits that one thread works on at a time
constexpr float kImpossible = 2e-38f;  // weights up to here, e^-87, are none
constexpr int kAccumulators = 8;       // of sums and comparisons that do not wait for each other

float max_of(const float* x, int64_t n) {
    float most[kAccumulators];
    std::fill_n(most, kAccumulators, -INFINITY);
    int64_t i = 0;
    for (; i + kAccumulators <= n; i += kAccumulators)
        for (int c = 0; c < kAccumulators; ++c) most[c] = most[c] < x[i + c] ? x[i + c] : most[c];
    for (; i < n; ++i) most[0] = std::max(most[0], x[i]);
    return *std::max_element(most, most + kAccumulators);
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
    double sums[kAccumulators] = {};
    int64_t i = 0;
    for (; i + kAccumulators <= n; i += kAccumulators)
        for (int c = 0; c < kAccumulators; ++c) sums[c] += x[i + c] > bound ? x[i + c] : 0.0f;
    for (; i < n; ++i) sums[0] += x[i] > bound ? x[i] : 0.0f;
    return std::accumulate(sums, sums + kAccumulators, 0.0);
}

// Where what is kept ends. Weights that equal the threshold differ in their logits where the temperature is high: kept
// are its `ties`, those of a logit above `logit`, and the first `late` of those equal to that, too.
struct Cut : Threshold {
    float logit = -INFINITY;
    int64_t late = 0;
};

// How many of the ties that are kept a block has, and how many of these have the last logit.
struct Ties {
    int64_t all, late;
};

class Sampler {
public:
    Sampler(const StepSet& steps, const ZayaSample& sample, std::vector<float>& weights)
        : steps_(steps), sample_(sample), blocks_((sample.n + kBlock - 1) / kBlock), weights_(weights) {}

    int64_t run() {
        const double total = softmax();
        if (!std::isfinite(total)) return -1;
        Cut cut = find_cut(total);
        const std::vector<Ties> ties = share_ties(cut);
        return sample_kept(cut, ties);
    }

private:
    // The softmax without its division: weights_ = p / max(p); returns their sum.
    double softmax() {
        weights_.resize(static_cast<size_t>(sample_.n));
        std::vector<float> largest(static_cast<size_t>(blocks_));
        for_blocks(sample_.threads, sample_.n, [&](size_t block, int64_t begin, int64_t end) {
            largest[block] = max_of(sample_.logits + begin, end - begin);
        });
        const float most = *std::max_element(largest.begin(), largest.end());
        std::vector<double> sums(static_cast<size_t>(blocks_));
        for_blocks(sample_.threads, sample_.n, [&](size_t block, int64_t begin, int64_t end) {
            sums[block] = steps_.exponentials(sample_.logits + begin, end - begin, most, sample_.temperature,
                                              weights_.data() + begin);
        });
        double total = 0;
        for (double sum : sums) total += sum;
        return total;
    }

    Cut find_cut(double total) const {
        const float floor = std::max(sample_.min_p, std::nextafter(kImpossible, 1.0f));
        if (!sample_.top_k && sample_.top_p >= 1) return {{std::nextafter(floor, 0.0f), 0}};
        const Budget budget = {sample_.top_k ? sample_.top_k : sample_.n,
                               sample_.top_p < 1 ? sample_.top_p * total : INFINITY};
        thread_local RadixSelect radix;  // kept: fresh memory costs more than the sampling
        return {radix.select(weights_.data(), sample_.n, floor, budget, sample_.threads)};
    }

    // In proportion to the weights that are kept, in the order of the ids.
    int64_t sample_kept(const Cut& cut, const std::vector<Ties>& ties) const {
        std::vector<double> sums(static_cast<size_t>(blocks_));
        for_blocks(sample_.threads, sample_.n, [&](size_t block, int64_t begin, int64_t end) {
            sums[block] = static_cast<double>(ties[block].all) * cut.value +
                          sum_above(weights_.data() + begin, end - begin, cut.value);
        });
        double kept = 0;
        for (double sum : sums) kept += sum;
        double position = sample_.uniform * kept;
        size_t last = 0;  // block with anything kept: rounding may take the position past its end
        for (size_t block = 0; block < sums.size(); ++block) {
            if (sums[block] <= 0) continue;
            last = block;
            if (position < sums[block]) return sample_in(block, cut, ties[block], position);
            position -= sums[block];
        }
        return sample_in(last, cut, ties[last], INFINITY);
    }

    // Of each block; finds out where the ties that are kept end.
    std::vector<Ties> share_ties(Cut& cut) const {
        std::vector<Ties> ties(static_cast<size_t>(blocks_), Ties{0, 0});
        if (cut.ties <= 0) return ties;
        for_blocks(sample_.threads, sample_.n, [&](size_t block, int64_t begin, int64_t end) {
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
            for (int64_t i = begin; i < std::min(begin + kBlock, sample_.n); ++i) {
                if (weights_[static_cast<size_t>(i)] != cut.value) continue;
                const bool is_late = sample_.logits[i] == cut.logit && ties[block].late < left;
                ties[block].all += is_late || sample_.logits[i] > cut.logit;
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
        for (int64_t i = 0; i < sample_.n; ++i)
            if (weights_[static_cast<size_t>(i)] == cut.value) logits.push_back(sample_.logits[i]);
        const auto last = logits.begin() + (cut.ties - 1);
        std::nth_element(logits.begin(), last, logits.end(), std::greater<float>());
        cut.logit = *last;
        cut.late = cut.ties - std::count_if(logits.begin(), last, [&](float logit) { return logit > cut.logit; });
    }

    int64_t sample_in(size_t block, const Cut& cut, Ties ties, double position) const {
        int64_t last = -1;
        const int64_t begin = static_cast<int64_t>(block) * kBlock;
        for (int64_t i = begin; i < std::min(begin + kBlock, sample_.n); ++i) {
            const float weight = weights_[static_cast<size_t>(i)];
            const auto is_kept_tie = [&] {
                return ties.all > 0 &&
                       (sample_.logits[i] > cut.logit || (sample_.logits[i] == cut.logit && ties.late-- > 0));
            };
            if (!(weight > cut.value) && !(weight == cut.value && is_kept_tie())) continue;
            last = i;
            if (position < weight) return i;
            position -= weight;
        }
        return last;
    }

    const StepSet& steps_;
    const ZayaSample& sample_;
    int64_t blocks_;
    std::vector<float>& weights_;
};

// The largest of a block and the sum of the exponentials relative to it.
struct BlockSum {
    float most;
    double sum;
};

BlockSum sum_block(const StepSet& steps, const float* logits, int64_t n) {
    const float most = max_of(logits, n);
    float exponentials[kBlock];
    // Where nothing is larger, a difference is no number: these are all -inf, or there is none but NaN.
    if (most == -INFINITY) return {most, std::accumulate(logits, logits + n, 0.0) == -INFINITY ? 0.0 : NAN};
    return {most, steps.exponentials(logits, n, most, 1.0f, exponentials)};
}

double logsumexp(const StepSet& steps, int threads, int64_t n, const float* logits, int64_t* likeliest) {
    std::vector<BlockSum> blocks(static_cast<size_t>((n + kBlock - 1) / kBlock));
    for_blocks(threads, n, [&](size_t block, int64_t begin, int64_t end) {
        blocks[block] = sum_block(steps, logits + begin, end - begin);
    });
    const auto best = std::max_element(blocks.begin(), blocks.end(),
                                       [](const BlockSum& a, const BlockSum& b) { return a.most < b.most; });
    *likeliest = std::find(logits + (best - blocks.begin()) * kBlock, logits + n, best->most) - logits;
    double total = 0;
    for (const BlockSum& block : blocks) total += block.sum * std::exp(static_cast<double>(block.most) - best->most);
    return best->most + std::log(total);
}

}  // namespace
}  // namespace zaya

int64_t zaya_sample(int instruction_set, const ZayaSample* sample) {
    thread_local std::vector<float> weights;  // kept, like the histograms
    int64_t id = -1;
    zaya::with_team(sample->threads,
                    [&] { id = zaya::Sampler(zaya::kernels_at(instruction_set).steps, *sample, weights).run(); });
    return id;
}

double zaya_logsumexp(int instruction_set, int32_t threads, int64_t n, const float* logits, int64_t* likeliest) {
    return zaya::logsumexp(zaya::kernels_at(instruction_set).steps, threads, n, logits, likeliest);
}
