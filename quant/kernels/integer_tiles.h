// Products of int8 activations with one packed tile of int4 or int8 weights, written once for all instruction sets.
//
// Include inside an unnamed namespace, after the instruction set's vector type V has been defined:
//
//   V::kLanes               output rows held in one vector (a divisor of 16)
//   V::kRows                rows of x worked on together, as many as the registers hold
//   V::Int, Float, Bytes    kLanes int32, kLanes float, 4 * kLanes bytes
//   V::add(Int, Int)
//   V::dot_int4(acc, w, x)  acc + sum of 4 products per lane, w in 0..15, x: 4 codes for all lanes
//   V::dot_int8(acc, w, x)  the same for w in -127..127, where acc began with V::start_int8(sum of the x codes)
//
// Sums of codes are exact, and the float steps are the same fused multiply-adds in the order of the groups everywhere: the
// result has the same bits on every instruction set and for any number of rows.

// The sums of M rows; of few rows in several chains of additions, which do not wait for each other.
template <class V, int M>
struct Chains {
    static constexpr int kCount = M == 1 ? 4 : M <= 3 ? 2 : 1;
    typename V::Int part[kCount][M];

    typename V::Int& at(int step, int m) { return part[step % kCount][m]; }
    typename V::Int total(int m) const {
        typename V::Int sum = part[0][m];
        for (int i = 1; i < kCount; ++i) sum = V::add(sum, part[i][m]);
        return sum;
    }
};

template <class V>
struct Int4 {
    using Scale = uint16_t;
    static constexpr int64_t kBytes = kInt4TileGroupBytes;

    static typename V::Int start(int32_t sum_of_x) { return V::splat(-8 * sum_of_x); }

    template <int M>
    static void add_group(Chains<V, M>& sums, const uint8_t* line, const int8_t* x) {
#pragma GCC unroll 8
        for (int c = 0; c < 8; ++c, line += 4 * kTile, x += 8 * M) {
            const typename V::Bytes packed = V::load(line);
            const typename V::Bytes low = V::low_nibbles(packed), high = V::high_nibbles(packed);
            for (int m = 0; m < M; ++m) sums.at(2 * c, m) = V::dot_int4(sums.at(2 * c, m), low, x + 4 * m);
            for (int m = 0; m < M; ++m) sums.at(2 * c + 1, m) = V::dot_int4(sums.at(2 * c + 1, m), high, x + 4 * (M + m));
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
    using Scale = float;
    static constexpr int64_t kBytes = kInt8TileGroupBytes;

    static typename V::Int start(int32_t sum_of_x) { return V::start_int8(sum_of_x); }

    template <int M>
    static void add_group(Chains<V, M>& sums, const uint8_t* line, const int8_t* x) {
#pragma GCC unroll 16
        for (int c = 0; c < 16; ++c, line += 4 * kTile, x += 4 * M) {
            const typename V::Bytes weights = V::load_int8(line);
            for (int m = 0; m < M; ++m) sums.at(c, m) = V::dot_int8(sums.at(c, m), weights, x + 4 * m);
        }
    }

    static typename V::Float group_scale(const Scale*, int64_t, int) { return V::splat(1.0f); }
    static typename V::Float factor(typename V::Float, float x_scale) { return V::splat(x_scale); }
    static typename V::Float finish(typename V::Float total, const Scale* scales, int lane) {
        return V::multiply(total, V::load(scales + lane));
    }
};

constexpr int64_t kGroupsAhead = 5;  // of one row's product, measured: 2 to 4 KB of int4 codes; of more rows half a tile or one

template <int64_t kBytes, bool kOnce>
void fetch_group(const uint8_t* codes, int64_t group) {
    for (int64_t i = 0; i < kBytes; i += 64) kOnce ? fetch_once(codes, group * kBytes + i) : fetch(codes, group * kBytes + i);
}

template <class V, class Format, int M>
void multiply_block(const QuantizedBlock& x, const uint8_t* codes, const typename Format::Scale* scales, const OutputTile& out) {
    const bool is_alone = M == 1 || x.is_alone;
    const int64_t ahead = M == 1 ? kGroupsAhead : is_alone ? x.groups / 2 : x.groups;
    for (int lane = 0; lane < kTile; lane += V::kLanes) {
        typename V::Float total[M];
        for (int m = 0; m < M; ++m) total[m] = V::splat(0.0f);
        for (int64_t g = 0; g < x.groups; ++g) {
            if (lane == 0) is_alone ? fetch_group<Format::kBytes, true>(codes, g + ahead) : fetch_group<Format::kBytes, false>(codes, g + ahead);
            Chains<V, M> sums;
            for (int m = 0; m < M; ++m) {
                sums.part[0][m] = Format::start(x.sums[g * M + m]);
                for (int i = 1; i < sums.kCount; ++i) sums.part[i][m] = V::splat(0);
            }
            Format::add_group(sums, codes + g * Format::kBytes + 4 * lane, x.codes + g * kGroup * M);
            const typename V::Float scale = Format::group_scale(scales, g, lane);
            for (int m = 0; m < M; ++m)
                total[m] = V::multiply_add(V::to_float(sums.total(m)), Format::factor(scale, x.scales[g * M + m]), total[m]);
        }
        for (int m = 0; m < M; ++m)
            V::store(Format::finish(total[m], scales, lane), out.y + m * out.stride + lane, out.valid - lane);
    }
}

template <class V, class Format, int M = V::kRows>
void multiply_rows(const QuantizedBlock& x, int64_t rows, const void* codes, const void* scales, const OutputTile& out) {
    if (rows == M)
        multiply_block<V, Format, M>(x, static_cast<const uint8_t*>(codes),
                                     static_cast<const typename Format::Scale*>(scales), out);
    else if constexpr (M > 1)
        multiply_rows<V, Format, M - 1>(x, rows, codes, scales, out);
}
