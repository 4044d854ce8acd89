// Products of a few rows of float32 and int8 numbers of the cache, which lie as key_values.h says: the rows are rounded to codes
// of 16 bits, so that sums are whole numbers and exact, and nothing is converted to float32 but these.
//
// A code's error is at most about 2^-16 of the largest number of its row, half a step; that of an int8 number 2^-8.
// Include after float_lanes.h.
// V also provides what integer_tiles.h says of int8 codes, V::shift_left(Int, bits) of each lane, and if not V::kHasDots
//
//   V::even_bytes(Int), odd_bytes(Int)   two of each word's four numbers in 16 bits each
//   V::add_pairs(sum, Int, x)            sum + both products of each lane by two int16

constexpr int64_t kFetchedAhead = 8192;         // bytes of keys or values, measured
constexpr int64_t kMostCodes = 256;             // of a row: 2^8 sums of 2^7 * 2^15
constexpr float kLargestCode = 127.0f * 256.0f;  // so that the higher byte stays within 127
constexpr float kNothing = 1e-30f;               // smaller rows are zero: below 1e-34 their codes' factor would be infinite

// How sums in 32 bits add products of four numbers by four codes: with dot products of bytes, higher and lower ones of a code
// apart; or with two of 16 bits each.
template <class V, bool kHasDots = V::kHasDots>
struct CodeSteps {
    using Numbers = typename V::Bytes;
    static constexpr int kSums = 2;

    // Lower bytes may be -128: dot products take those, the sign tricks of who has none do not.
    static void store(const int32_t* codes, int64_t count, int8_t* row, int32_t (&sums)[2]) {
        int32_t high = 0, low = 0;
        for (int64_t i = 0; i < count; ++i) {
            const int32_t upper = (codes[i] + 128) >> 8, lower = codes[i] - 256 * upper;
            row[i] = static_cast<int8_t>(upper), row[kMostCodes + i] = static_cast<int8_t>(lower);
            high += upper, low += lower;
        }
        sums[0] = high, sums[1] = low;
    }
    static Numbers load(const int8_t* numbers) { return V::load_int8(reinterpret_cast<const uint8_t*>(numbers)); }
    static typename V::Int start(int32_t sum_of_codes) { return V::start_int8(sum_of_codes); }
    static typename V::Int add(typename V::Int sum, const Numbers& numbers, const int8_t* row, int64_t at, int i) {
        return V::dot_int8(sum, numbers, row + i * kMostCodes + at);
    }
    static typename V::Int total(const typename V::Int (&sums)[2]) { return V::add(V::shift_left(sums[0], 8), sums[1]); }
};

template <class V>
struct CodeSteps<V, false> {
    struct Numbers {
        typename V::Int even, odd;
    };
    static constexpr int kSums = 1;

    // Of each four codes first the even ones.
    static void store(const int32_t* codes, int64_t count, int8_t* row, int32_t (&)[2]) {
        for (int64_t i = 0; i < count; i += 4)
            for (int64_t j = i; j < i + 2; ++j) {
                const uint32_t two = (static_cast<uint32_t>(codes[j]) & 0xffffu) | static_cast<uint32_t>(codes[j + 2]) << 16;
                std::memcpy(row + 2 * i + 4 * (j - i), &two, sizeof two);
            }
    }
    static Numbers load(const int8_t* numbers) {
        const typename V::Int words = V::load_words(numbers);
        return {V::even_bytes(words), V::odd_bytes(words)};
    }
    static typename V::Int start(int32_t) { return V::splat(0); }
    static typename V::Int add(typename V::Int sum, const Numbers& numbers, const int8_t* row, int64_t at, int) {
        return V::add_pairs(V::add_pairs(sum, numbers.even, row + 2 * at), numbers.odd, row + 2 * at + 4);
    }
    static typename V::Int total(const typename V::Int (&sums)[1]) { return sums[0]; }
};

template <int M>
struct CodeRows {
    alignas(64) int8_t codes[M][2 * kMostCodes];
    float scales[M];
    int32_t sums[M][2] = {};
    int64_t count;
};

// The first `count` numbers, at most kMostCodes and a multiple of 4, of each row.
template <class V, int M>
void round_to_codes(const float* x, int64_t stride, int64_t count, CodeRows<M>& rows) {
    rows.count = count;
    for (int m = 0; m < M; ++m, x += stride) {
        const float largest = largest_absolute<V>(x, count), inverse = largest > kNothing ? kLargestCode / largest : 0.0f;
        int32_t codes[kMostCodes];
        for (int64_t i = 0; i < count; ++i) codes[i] = static_cast<int32_t>(nearest_whole<V>(x[i] * inverse));
        CodeSteps<V>::store(codes, count, rows.codes[m], rows.sums[m]);
        rows.scales[m] = largest / kLargestCode;
    }
}

// y (M, 16 * kTiles), rows `stride` apart, = or += rows times tiles of sixteen columns, `next` numbers apart.
template <class V, int M, int kTiles>
void multiply_codes(const CodeRows<M>& rows, const int8_t* columns, int64_t next, float* y, int64_t stride, bool adds) {
    using Steps = CodeSteps<V>;
    for (int lane = 0; lane < kTile; lane += V::kParts * V::kLanes) {
        typename V::Int sums[kTiles][V::kParts][M][Steps::kSums];
        for (int t = 0; t < kTiles; ++t)
            for (int p = 0; p < V::kParts; ++p)
                for (int m = 0; m < M; ++m)
                    for (int i = 0; i < Steps::kSums; ++i) sums[t][p][m][i] = Steps::start(rows.sums[m][i]);
#pragma GCC unroll 4
        for (int64_t c = 0; c < rows.count; c += 4) {
            typename Steps::Numbers numbers[kTiles][V::kParts];
            for (int t = 0; t < kTiles; ++t) {
                const int8_t* line = columns + t * next + c * kTile;
                if (lane == 0) fetch(line, kFetchedAhead);
                for (int p = 0; p < V::kParts; ++p) numbers[t][p] = Steps::load(line + 4 * (lane + p * V::kLanes));
            }
            for (int m = 0; m < M; ++m)
                for (int t = 0; t < kTiles; ++t)
                    for (int p = 0; p < V::kParts; ++p)
                        for (int i = 0; i < Steps::kSums; ++i) sums[t][p][m][i] = Steps::add(sums[t][p][m][i], numbers[t][p], rows.codes[m], c, i);
        }
        for (int t = 0; t < kTiles; ++t)
            for (int p = 0; p < V::kParts; ++p)
                for (int m = 0; m < M; ++m) {
                    float* to = y + m * stride + t * kTile + lane + p * V::kLanes;
                    const typename V::Float before = adds ? V::load(to) : V::splat(0.0f);
                    V::store(V::multiply_add(V::to_float(Steps::total(sums[t][p][m])), V::splat(rows.scales[m]), before), to, V::kLanes);
                }
    }
}

// y (M, 16 * tiles): two tiles at a time share the loads of codes where the registers hold their sums.
template <class V, int M>
void multiply_code_tiles(const CodeRows<M>& rows, const int8_t* columns, int64_t next, int64_t tiles, float* y, int64_t stride, bool adds) {
    constexpr int kTiles = V::kLanes == kTile ? 2 : 1;
    int64_t t = 0;
    for (; t + kTiles <= tiles; t += kTiles) multiply_codes<V, M, kTiles>(rows, columns + t * next, next, y + t * kTile, stride, adds);
    for (; t < tiles; ++t) multiply_codes<V, M, 1>(rows, columns + t * next, next, y + t * kTile, stride, adds);
}
