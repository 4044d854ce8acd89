// Products of rows by a tile of bf16 weights, along the rows of both, so that weights are read as they lie. Written once for
// the instruction sets that have a Rows:
//
//   Rows::X                 what rows of x hold (instruction_set.h, RowsOfX)
//   Rows::kRows             rows of x that are multiplied together by kWeightRows of weights, as many as the registers hold
//   Rows::multiply_block<M, kFetched>(x, k, w, stride, next, out)   M of them, rows of x k apart and those of weights `stride`;
//                           the first `out.valid` columns. Fetches kFetched rows from `next` on meanwhile.
//
// Include inside an unnamed namespace, after fetch.h and instruction_set.h and before the Rows.

constexpr int kWeightRows = 4;

// 32 columns of weights that are multiplied next, fetched meanwhile.
template <int kRows>
void fetch_columns(const uint16_t* w, int64_t k) {
    for (int row = 0; row < kRows; ++row) fetch_once(w + row * k, 0);
}

template <class Rows, int kFetched, int M = Rows::kRows>
void multiply_some(const typename Rows::X* x, int64_t rows, int64_t k, const uint16_t* w, int64_t stride, const uint16_t* next, const OutputTile& out) {
    if (rows >= M)
        Rows::template multiply_block<M, kFetched>(x, k, w, stride, next, out);
    else if constexpr (M > 1)
        multiply_some<Rows, kFetched, M - 1>(x, rows, k, w, stride, next, out);
}

// Four rows of weights, or one four times.
template <class Rows>
void multiply_weights(const RowsOfX& x, const uint16_t* w, int64_t stride, const OutputTile& out) {
    const auto* values = static_cast<const typename Rows::X*>(x.values);
    const uint16_t* next = w + kWeightRows * x.k;
    const bool is_short = x.rows < kWeightRows * Rows::kRows;
    for (int64_t row = 0; row < x.rows; row += Rows::kRows) {
        const OutputTile part = {out.y + row * out.stride, out.stride, out.valid};
        (is_short ? multiply_some<Rows, kWeightRows> : multiply_some<Rows, 1>)(
            values + row * x.k, x.rows - row, x.k, w, stride, is_short ? next : next + row / Rows::kRows % kWeightRows * x.k, part);
    }
}

template <class Rows>
void multiply_bf16_tile(const RowsOfX& x, const uint16_t* w, const OutputTile& out) {
    for (int64_t n = 0; n < kTile && n < out.valid;) {
        const bool is_block = n + kWeightRows <= out.valid;
        multiply_weights<Rows>(x, w + n * x.k, is_block ? x.k : 0, {out.y + n, out.stride, is_block ? kWeightRows : 1});
        n += is_block ? kWeightRows : 1;
    }
}
