// Products of int8 activations with packed tiles of int4 or int8 weights, written once for all instruction sets.
//
// Include inside an unnamed namespace, after the instruction set's vector type V has been defined:
//
//   V::kLanes               output rows held in one vector (a divisor of 16)
//   V::kRows                rows of x worked on together, as many as the registers hold
//   V::kParts               vectors of a tile worked on together: they share what is loaded of x
//   V::kStreams             tiles that few rows are multiplied by in turns
//   V::Int, Float, Bytes    kLanes int32, kLanes float, 4 * kLanes bytes
//   V::add(Int, Int)
//   V::dot_int4(acc, w, x)  acc + sum of 4 products per lane, w in 0..15, x: 4 codes for all lanes
//   V::kHasDots             whether these are added to a lane of 32 bits. If not, its halves hold the sums of the first and of the
//                           last two of four products; they begin with V::start_int4(a group's 64 codes), both in one int32,
//                           and V::widen(acc) adds them up
//   V::dot_int8(acc, w, x)  the same for w in -127..127, where acc began with V::start_int8(sum of the x codes)
//
// Sums of codes are exact, and the float steps are the same fused multiply-adds in the order of the groups everywhere: the
// result has the same bits on every instruction set and for any number of rows.

// The sums of M rows with the vectors that are worked on together. Where these are few in several chains of additions, which
// do not wait for each other; sums of 16 bits are not, V::add would carry from one into the next.
template <class V, int M>
struct Chains {
    static constexpr int kCount = !V::kHasDots || V::kParts > 1 || M > 3 ? 1 : M == 1 ? 4 : 2;
    typename V::Int part[kCount][M][V::kParts];

    typename V::Int& at(int step, int m, int p) { return part[step % kCount][m][p]; }
    typename V::Int total(int m, int p) const {
        typename V::Int sum = part[0][m][p];
        for (int i = 1; i < kCount; ++i) sum = V::add(sum, part[i][m][p]);
        return sum;
    }
};

template <class V>
struct Int4 {
    using Int = typename V::Int;
    using Bytes = typename V::Bytes;
    using Scale = uint16_t;
    static constexpr int64_t kBytes = kInt4TileGroupBytes;
    static constexpr int64_t scales_of(int64_t groups) { return groups; }

    static Int start(int32_t of_x) { return V::splat(V::kHasDots ? -8 * of_x : of_x); }
    static Int finish_group(Int sum) {
        if constexpr (V::kHasDots)
            return sum;
        else
            return V::widen(sum);
    }

    template <int M>
    static void add_step(Chains<V, M>& sums, int step, const Bytes (&w)[V::kParts], const int8_t* x) {
        for (int m = 0; m < M; ++m)
            for (int p = 0; p < V::kParts; ++p) sums.at(step, m, p) = V::dot_int4(sums.at(step, m, p), w[p], x + 4 * m);
    }
    template <int M>
    static void add_group(Chains<V, M>& sums, const uint8_t* line, const int8_t* x) {
#pragma GCC unroll 8
        for (int step = 0; step < 16; step += 2, line += 4 * kTile, x += 8 * M) {
            Bytes low[V::kParts], high[V::kParts];
            for (int p = 0; p < V::kParts; ++p) {
                const Bytes packed = V::load(line + p * 4 * V::kLanes);
                low[p] = V::low_nibbles(packed), high[p] = V::high_nibbles(packed);
            }
            add_step<M>(sums, step, low, x);
            add_step<M>(sums, step + 1, high, x + 4 * M);
        }
    }

    static typename V::Float group_scale(const Scale* scales, int64_t group, int lane) {
        return V::load_half(scales + group * kTile + lane);
    }
    static typename V::Float factor(typename V::Float scale, float x_scale) { return V::multiply(scale, V::splat(x_scale)); }
    static typename V::Float finish(typename V::Float total, const Scale*, int) { return total; }
};

template <class V>
struct Int8 {
    using Int = typename V::Int;
    using Scale = float;
    static constexpr int64_t kBytes = kInt8TileGroupBytes;
    static constexpr int64_t scales_of(int64_t) { return 1; }

    static Int start(int32_t sum_of_x) { return V::start_int8(sum_of_x); }
    static Int finish_group(Int sum) { return sum; }

    template <int M>
    static void add_group(Chains<V, M>& sums, const uint8_t* line, const int8_t* x) {
#pragma GCC unroll 16
        for (int step = 0; step < 16; ++step, line += 4 * kTile, x += 4 * M) {
            typename V::Bytes w[V::kParts];
            for (int p = 0; p < V::kParts; ++p) w[p] = V::load_int8(line + p * 4 * V::kLanes);
            for (int m = 0; m < M; ++m)
                for (int p = 0; p < V::kParts; ++p) sums.at(step, m, p) = V::dot_int8(sums.at(step, m, p), w[p], x + 4 * m);
        }
    }

    static typename V::Float group_scale(const Scale*, int64_t, int) { return V::splat(1.0f); }
    static typename V::Float factor(typename V::Float, float x_scale) { return V::splat(x_scale); }
    static typename V::Float finish(typename V::Float total, const Scale* scales, int lane) {
        return V::multiply(total, V::load(scales + lane));
    }
};

// sums += those of one group, where `line` begins with the lanes that are worked on. Without `inline` GCC calls it where M is small.
template <class V, class Format, int M>
inline void add_group(typename V::Int (&sums)[M][V::kParts], const uint8_t* line, const int8_t* x) {
    Chains<V, M> chains;
    for (int m = 0; m < M; ++m)
        for (int p = 0; p < V::kParts; ++p)
            for (int i = 0; i < chains.kCount; ++i) chains.part[i][m][p] = i == 0 ? sums[m][p] : V::splat(0);
    Format::template add_group<M>(chains, line, x);
    for (int m = 0; m < M; ++m)
        for (int p = 0; p < V::kParts; ++p) sums[m][p] = Format::finish_group(chains.total(m, p));
}

constexpr int64_t kGroupsAhead = 5;  // of one row's product, measured: 2 to 4 KB of int4 codes; of more rows half a tile or one

template <int64_t kBytes, bool kOnce>
void fetch_group(const uint8_t* codes, int64_t group) {
    for (int64_t i = 0; i < kBytes; i += 64) kOnce ? fetch_once(codes, group * kBytes + i) : fetch(codes, group * kBytes + i);
}

// The lanes from `lane` on that are worked on together, of S tiles in turns. Several tiles are not fetched: the processor follows
// several stretches of memory better by itself, measured.
template <class V, class Format, int M, int S>
void multiply_lanes(const QuantizedBlock& x, const Weights& weights, const Tiles& tiles, int lane, const OutputTile& out) {
    const int64_t tile_bytes = x.groups * Format::kBytes, tile_scales = kTile * Format::scales_of(x.groups);
    const auto* codes = static_cast<const uint8_t*>(weights.codes) + tiles.first * tile_bytes;
    const auto* scales = static_cast<const typename Format::Scale*>(weights.scales) + tiles.first * tile_scales;
    const int64_t next_codes = tiles.apart * tile_bytes, next_scales = tiles.apart * tile_scales;
    const bool is_alone = M == 1 || x.is_alone;
    const int64_t ahead = M == 1 ? kGroupsAhead : is_alone ? x.groups / 2 : x.groups;
    typename V::Float total[S * M][V::kParts];
    for (int i = 0; i < S * M * V::kParts; ++i) total[i / V::kParts][i % V::kParts] = V::splat(0.0f);
    for (int64_t g = 0; g < x.groups; ++g)
        for (int s = 0; s < S; ++s) {
            if (S == 1 && lane == 0) is_alone ? fetch_group<Format::kBytes, true>(codes, g + ahead) : fetch_group<Format::kBytes, false>(codes, g + ahead);
            typename V::Int sums[M][V::kParts];
            for (int i = 0; i < M * V::kParts; ++i) sums[i / V::kParts][i % V::kParts] = Format::start(x.sums[g * M + i / V::kParts]);
            add_group<V, Format, M>(sums, codes + s * next_codes + g * Format::kBytes + 4 * lane, x.codes + g * kGroup * M);
            for (int p = 0; p < V::kParts; ++p) {
                const typename V::Float scale = Format::group_scale(scales + s * next_scales, g, lane + p * V::kLanes);
                for (int m = 0; m < M; ++m)
                    total[s * M + m][p] = V::multiply_add(V::to_float(sums[m][p]), Format::factor(scale, x.scales[g * M + m]), total[s * M + m][p]);
            }
        }
    for (int s = 0; s < S; ++s)
        for (int p = 0; p < V::kParts; ++p) {
            const int64_t column = s * tiles.apart * kTile + lane + p * V::kLanes;
            for (int m = 0; m < M; ++m)
                V::store(Format::finish(total[s * M + m][p], scales + s * next_scales, lane + p * V::kLanes), out.y + m * out.stride + column, out.valid - column);
        }
}

template <class V, class Format, int M, int S>
void multiply_block(const QuantizedBlock& x, const Weights& weights, const Tiles& tiles, const OutputTile& out) {
    for (int lane = 0; lane < kTile; lane += V::kParts * V::kLanes) multiply_lanes<V, Format, M, S>(x, weights, tiles, lane, out);
}

template <class V, class Format, int M = V::kRows>
void multiply_rows(const QuantizedBlock& x, int64_t rows, const Weights& weights, const Tiles& tiles, const OutputTile& out) {
    if (rows == M)
        tiles.count == 1 ? multiply_block<V, Format, M, 1>(x, weights, tiles, out)
                         : multiply_block<V, Format, M, M <= kStreamedRows ? V::kStreams : 1>(x, weights, tiles, out);
    else if constexpr (M > 1)
        multiply_rows<V, Format, M - 1>(x, rows, weights, tiles, out);
}
