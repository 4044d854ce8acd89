// PromptSteps, written once for all instruction sets on float_lanes.h and attention_steps.h.
//
// Include after those. V also provides
//
//   V::shift_right(Int, bits)         of each word, extends the sign
//   V::fraction(x)                    x less the whole number below it
//   V::times_power_of_two(value, x)   value times 2 to that whole number, x <= 0; zero for x = -inf, whatever the value
//
// and Pairs, how a tile holds the numbers that are multiplied:
//
//   Pairs::V, Number, kFormat
//   Pairs::kRows, kTiles             of a block whose sums the registers hold; kTiles is 1 or 2
//   Pairs::kEach                     numbers of each of 16 columns in a Step: 2, or 1, which takes fewer registers
//   Pairs::load(p)                   a Step
//   Pairs::keep_first(Step)          makes the second numbers zero; where kEach is 2
//   Pairs::row_at(tile, m)           where a tile's row m begins
//   Pairs::add_product(sum, Step, row, m, part)   sum + a part of the Step times that of the m-th row behind this one
//   Pairs::store(first, second, p)   lanes of numbers as a pair

template <class Vector>
struct FloatPairs {
    using V = Vector;
    using Number = float;
    static constexpr KeyValueFormat kFormat = KeyValueFormat::float32;
    static constexpr int kRows = V::kLanes == kTile ? 8 : 6, kTiles = V::kLanes == kTile ? 2 : 1;
    static constexpr int kEach = 1;
    using Step = Lanes<V>;

    static Step load(const Number* columns) { return Step::load(columns); }
    static const Number* row_at(const Number* tile, int m) { return tile + m; }
    static typename V::Float add_product(typename V::Float sum, const Step& step, const Number* row, int m, int part) {
        return V::multiply_add(step.part[part], V::splat(row[m]), sum);
    }
    static void store(const Lanes<V>& first, const Lanes<V>& second, Number* pair) { first.store(pair), second.store(pair + kTile); }
};

template <class Pairs>
void make_tile(const float* x, int64_t stride, int64_t k, void* tile) {
    using L = Lanes<typename Pairs::V>;
    auto* to = static_cast<typename Pairs::Number*>(tile);
    for (int64_t c = 0; c < k; c += 2, to += 2 * kTile) {
        float columns[2][kTile];
        for (int64_t r = 0; r < kTile; ++r) columns[0][r] = x[r * stride + c], columns[1][r] = x[r * stride + c + 1];
        Pairs::store(L::load(columns[0]), L::load(columns[1]), to);
    }
}

template <class V, class KV>
typename V::Float wide_number_of(typename V::Int words, int i) {
    if constexpr (sizeof(KV) == 1)
        return V::to_float(V::shift_right(V::shift_left(words, 24 - 8 * i), 24));
    else
        return number_of<V, KV>(words, i);
}

// Codes are bf16 numbers, too: rounding would change nothing.
template <class Pairs, class KV>
void widen_as(const KV* numbers, int64_t k, void* tile) {
    using V = typename Pairs::V;
    constexpr int kEach = 4 / sizeof(KV);
    auto* to = static_cast<typename Pairs::Number*>(tile);
    for (int64_t c = 0; c < k; c += kEach, numbers += kEach * kTile)
        for (int i = 0; i < kEach; i += 2, to += 2 * kTile) {
            Lanes<V> pair[2];
            for (int part = 0; part < Lanes<V>::kParts; ++part) {
                const typename V::Int words = V::load_words(numbers + part * V::kLanes * kEach);
                for (int j = 0; j < 2; ++j) pair[j].part[part] = wide_number_of<V, KV>(words, i + j);
            }
            Pairs::store(pair[0], pair[1], to);
        }
}

template <class Pairs>
void widen(KeyValueFormat stored, const void* numbers, int64_t k, void* tile) {
    if (stored == KeyValueFormat::int8)
        widen_as<Pairs>(static_cast<const int8_t*>(numbers), k, tile);
    else
        widen_as<Pairs>(static_cast<const uint16_t*>(numbers), k, tile);
}

// --- products --------------------------------------------------------------------------------------------------------

// M rows from where `rows` points by kTiles tiles of columns, which takes fewer loads than products; k is a multiple of kEach.
// kAlone: of each pair the first.
template <class Pairs, int M, bool kAlone>
void multiply_some(const typename Pairs::Number* rows, const char* columns, int64_t next, int64_t k, float* y, int64_t stride, bool adds) {
    using V = typename Pairs::V;
    constexpr int kTiles = Pairs::kTiles, kParts = kTile / V::kLanes;
    typename V::Float sums[M][kTiles][kParts];  // not Lanes, which compilers keep in memory
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
        for (int t = 0; t < kTiles; ++t)
            for (int i = 0; i < kParts; ++i) sums[m][t][i] = adds ? V::load(y + m * stride + t * kTile + i * V::kLanes) : V::splat(0.0f);
#pragma GCC unroll 4
    for (int64_t c = 0; c < k; c += Pairs::kEach, rows += Pairs::kEach * kTile) {
        typename Pairs::Step steps[kTiles];
        for (int t = 0; t < kTiles; ++t) {
            steps[t] = Pairs::load(reinterpret_cast<const typename Pairs::Number*>(columns + t * next) + c * kTile);
            if constexpr (kAlone) Pairs::keep_first(steps[t]);
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m)
            for (int t = 0; t < kTiles; ++t)
                for (int i = 0; i < kParts; ++i) sums[m][t][i] = Pairs::add_product(sums[m][t][i], steps[t], rows, m, i);
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
        for (int t = 0; t < kTiles; ++t)
            for (int i = 0; i < kParts; ++i) V::store(sums[m][t][i], y + m * stride + t * kTile + i * V::kLanes, V::kLanes);
}

template <class Pairs, bool kAlone>
void multiply_pairs(const typename Pairs::Number* rows, const char* columns, int64_t next, int64_t k, float* y, int64_t stride, bool adds) {
    constexpr int kRows = Pairs::kRows, kRest = kTile % kRows;
    for (int t = 0; t < 2; t += Pairs::kTiles, columns += Pairs::kTiles * next, y += Pairs::kTiles * kTile) {
        for (int row = 0; row + kRows <= kTile; row += kRows)
            multiply_some<Pairs, kRows, kAlone>(Pairs::row_at(rows, row), columns, next, k, y + row * stride, stride, adds);
        if constexpr (kRest > 0)
            multiply_some<Pairs, kRest, kAlone>(Pairs::row_at(rows, kTile - kRest), columns, next, k, y + (kTile - kRest) * stride, stride, adds);
    }
}

template <class Pairs>
void multiply_tiles(const void* rows, const void* columns, int64_t next, int64_t k, float* y, int64_t stride, bool adds) {
    const auto* numbers = static_cast<const typename Pairs::Number*>(rows);
    const auto* bytes = static_cast<const char*>(columns);
    const int64_t whole = k / Pairs::kEach * Pairs::kEach;
    multiply_pairs<Pairs, false>(numbers, bytes, next, whole, y, stride, adds);
    if constexpr (Pairs::kEach > 1)
        if (whole < k) multiply_pairs<Pairs, true>(numbers + whole * kTile, bytes + whole * kTile * sizeof *numbers, next, Pairs::kEach, y, stride, true);
}

// --- weights ---------------------------------------------------------------------------------------------------------

// Positions lie one below the other, their queries in the lanes: no lanes are folded for the largest score and the sum, and
// two positions beside each other are a pair of the next product.

// 2^x for x <= 0, to 1.5e-7; zero for -inf.
template <class V>
Lanes<V> exp2(const Lanes<V>& x) {
    // Fitted by least squares on [0, 1] with the last at one, so that what has no larger score keeps its bits.
    static constexpr float kFit[] = {0.0018671302f, 0.0090170300f, 0.055799913f, 0.24016445f, 0.69315131f, 1.0f};
    Lanes<V> made;
    for (int i = 0; i < Lanes<V>::kParts; ++i) made.part[i] = V::fraction(x.part[i]);
    made = polynomial(made, kFit);
    for (int i = 0; i < Lanes<V>::kParts; ++i) made.part[i] = V::times_power_of_two(made.part[i], x.part[i]);
    return made;
}

inline bool all_see(int64_t first, int64_t count, const PositionsSeen& seen) {
    bool all = true;
    for (int q = 0; q < kTile; ++q) all &= seen.begin[q] <= first && first + count <= seen.end[q];
    return all;
}

// Most runs are seen by all sixteen.
inline void hide(float* scores, int64_t stride, int64_t count, const PositionsSeen& seen) {
    if (all_see(seen.first, count, seen)) return;
    for (int64_t p = 0; p < count; ++p, scores += stride) {
        const auto position = static_cast<int32_t>(seen.first + p);
        for (int q = 0; q < kTile; ++q) scores[q] = ((seen.begin[q] <= position) & (position < seen.end[q])) ? scores[q] : -INFINITY;
    }
}

template <class V>
void scale_by(const float* scales, int64_t stride, int64_t count, float* scores) {
    for (int64_t p = 0; p < count; ++p, scores += stride) (Lanes<V>::load(scores) * Lanes<V>::splat(scales[p])).store(scores);
}

template <class V>
Lanes<V> largest_below(const float* scores, int64_t stride, int64_t count, const Lanes<V>& least) {
    Lanes<V> most[kChains];
    for (auto& chain : most) chain = least;
    int64_t p = 0;
    for (; p + kChains <= count; p += kChains)
        for (int c = 0; c < kChains; ++c, scores += stride) most[c] = largest(Lanes<V>::load(scores), most[c]);
    for (; p < count; ++p, scores += stride) most[0] = largest(Lanes<V>::load(scores), most[0]);
    return largest(largest(most[0], most[1]), largest(most[2], most[3]));
}

// One position's weights, which the sum gets before the values' scale.
template <class V, bool kScaled>
Lanes<V> weights_of(const float* scores, const Lanes<V>& most, const float* value_scales, int64_t position, Lanes<V>& sum) {
    const Lanes<V> weights = exp2(Lanes<V>::load(scores) - most);
    sum = sum + weights;
    if constexpr (kScaled) return weights * Lanes<V>::splat(value_scales[position]);
    return weights;
}

// Returns the weights' sums.
template <class Pairs, bool kScaled, class V>
Lanes<V> store_weights(const float* scores, int64_t stride, int64_t count, const Lanes<V>& most, const float* value_scales, void* tile) {
    auto* to = static_cast<typename Pairs::Number*>(tile);
    const Lanes<V> zero = Lanes<V>::splat(0.0f);
    Lanes<V> even = zero, odd = zero;
    int64_t p = 0;
    for (; p + 2 <= count; p += 2, scores += 2 * stride, to += 2 * kTile) {
        const Lanes<V> first = weights_of<V, kScaled>(scores, most, value_scales, p, even);
        Pairs::store(first, weights_of<V, kScaled>(scores + stride, most, value_scales, p + 1, odd), to);
    }
    if (p < count) Pairs::store(weights_of<V, kScaled>(scores, most, value_scales, p, even), zero, to);
    return even + odd;
}

template <class Pairs>
void weigh_tile(float* scores, int64_t stride, const KeyValueRun& run, const PositionsSeen& seen, int64_t width, const AttentionState& state, void* tile) {
    using V = typename Pairs::V;
    using L = Lanes<V>;
    const int64_t count = run.end - run.begin;
    if (run.key_scales) scale_by<V>(run.key_scales + run.begin, stride, count, scores);
    hide(scores, stride, count, seen);
    const L before = L::load(state.largest), most = largest_below<V>(scores, stride, count, before);
    const L added = run.value_scales ? store_weights<Pairs, true>(scores, stride, count, most, run.value_scales + run.begin, tile)
                                     : store_weights<Pairs, false>(scores, stride, count, most, nullptr, tile);
    const L scale = exp2(before - most);
    multiply_add(L::load(state.sum), scale, added).store(state.sum);
    most.store(state.largest);
    float factor[kTile];
    scale.store(factor);
    for (int q = 0; q < kTile; ++q)
        for (int64_t i = 0; factor[q] != 1.0f && i < width; i += kTile) {
            float* out = state.out + q * width + i;
            (L::load(out) * L::splat(factor[q])).store(out);
        }
}

template <class Pairs>
constexpr PromptSteps kPromptSteps = {Pairs::kFormat, make_tile<Pairs>, widen<Pairs>, multiply_tiles<Pairs>, weigh_tile<Pairs>};
