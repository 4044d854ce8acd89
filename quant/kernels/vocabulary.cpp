#include "vocabulary.h"

#include <algorithm>

#include "aligned.h"
#include "bits.h"
#include "instruction_set.h"
#include "matmul.h"
#include "parallel.h"

namespace zaya {
namespace {

// One row of a packed matrix of k columns (layout.h).
class PackedRow {
public:
    PackedRow(const ZayaMatrix& matrix, int64_t k, int64_t row) : tile_(row / kTile), lane_(row % kTile), groups_(k / kGroup), matrix_(matrix) {}

    void read_int4(float* to) const {
        const auto* codes = static_cast<const uint8_t*>(matrix_.codes) + tile_ * groups_ * kInt4TileGroupBytes + lane_ * 4;
        const auto* scales = static_cast<const uint16_t*>(matrix_.scales) + tile_ * groups_ * kTile + lane_;
        for (int64_t g = 0; g < groups_; ++g) {
            const float scale = half_as_float(scales[g * kTile]);
            for (int64_t line = 0; line < kGroup / 8; ++line, to += 8, codes += 4 * kTile)
                for (int64_t i = 0; i < 4; ++i) {
                    to[i] = static_cast<float>((codes[i] & 15) - 8) * scale;
                    to[4 + i] = static_cast<float>((codes[i] >> 4) - 8) * scale;
                }
        }
    }

    void read_int8(float* to) const {
        const auto* codes = static_cast<const int8_t*>(matrix_.codes) + tile_ * groups_ * kInt8TileGroupBytes + lane_ * 4;
        const float scale = static_cast<const float*>(matrix_.scales)[tile_ * kTile + lane_];
        for (int64_t i = 0; i < groups_ * kGroup; ++i) to[i] = static_cast<float>(codes[i / 4 * 4 * kTile + i % 4]) * scale;
    }

private:
    int64_t tile_, lane_, groups_;
    const ZayaMatrix& matrix_;
};

void read_row(const ZayaEmbedding& from, int64_t row, float* to) {
    switch (static_cast<Format>(from.format)) {
        case Format::int4: return PackedRow(from.matrix, from.hidden, row).read_int4(to);
        case Format::int8: return PackedRow(from.matrix, from.hidden, row).read_int8(to);
        case Format::bf16:
            for (int64_t i = 0; i < from.hidden; ++i) to[i] = as_float(static_cast<const uint16_t*>(from.matrix.codes)[row * from.hidden + i]);
    }
}

}  // namespace
}  // namespace zaya

int zaya_embed(const ZayaEmbedding* embedding, int32_t threads, int64_t rows, const int64_t* ids, float* residual) {
    const auto is_row = [&](int64_t id) { return 0 <= id && id < embedding->vocabulary; };
    if (!std::all_of(ids, ids + rows, is_row)) return 0;
    zaya::parallel_rows(threads, rows, [&](int64_t row) {
        float* to = residual + row * embedding->hidden;
        zaya::read_row(*embedding, ids[row], to);
        for (int64_t i = 0; i < embedding->hidden; ++i) to[i] = (to[i] + embedding->bias[i]) * embedding->scale[i];
    });
    return 1;
}

void zaya_logits(int instruction_set, const ZayaHead* head, int32_t threads, int64_t rows, const float* residual, float* logits) {
    using namespace zaya;
    const InstructionSet& set = instruction_set_at(instruction_set);
    const int64_t d = head->hidden, v = head->vocabulary;
    const Aligned<float> normed = aligned<float>(rows * d);
    parallel_rows(threads, rows, [&](int64_t row) {
        float* own = normed.get() + row * d;
        set.steps.rms_norm(residual + row * d, head->norm, d, head->rms_norm_eps, own);
        for (int64_t i = 0; head->rounds_to_bf16 && i < d; ++i) own[i] = as_float(to_bf16(own[i]));
    });
    const PreparedRows x(set, static_cast<Format>(head->format), {normed.get(), false, nullptr}, d, &rows, 1, threads);
    const Weights weights = {head->matrix.codes, head->matrix.scales};
    x.multiply(&weights, v, logits);
    if (head->bias)
        parallel_rows(threads, rows, [&](int64_t row) {
            for (int64_t i = 0; i < v; ++i) logits[row * v + i] += head->bias[i];
        });
}
