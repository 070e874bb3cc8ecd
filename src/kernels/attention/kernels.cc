#include "kernels/attention/kernels.h"

#include <cmath>
#include <limits>

#include "base/check.h"

namespace fettle {
namespace {

constexpr AttentionKernel kKernels[] = {
#define FETTLE_ATTENTION(name, type, isa, function) {name, type, isa, write_kv, function},
#include "kernels/attention/kernels.inc"
#undef FETTLE_ATTENTION
};

}  // namespace

std::string_view kv_type_name(KvType type) { return type == KvType::kF32 ? "f32" : "bf16"; }

Result<KvType> parse_kv_type(std::string_view name) {
  for (const KvType type : {KvType::kF32, KvType::kBF16})
    if (name == kv_type_name(type)) return type;
  return make_error(Code::kUsage, "cache type \"{}\" is unknown; expected f32 or bf16", name);
}

std::span<const AttentionKernel> attention_kernels() { return kKernels; }

const AttentionKernel* find_attention_kernel(KvType type, Isa isa) {
  for (const AttentionKernel& kernel : kKernels)
    if (kernel.type == type && kernel.isa <= isa) return &kernel;
  return nullptr;
}

int64_t attention_scratch_floats(const KvShape& shape, int64_t) {
  // A row: q, running output, 16 partial sums, maximum; a start on a cache line, one row's partial result,
  // and the V part of a latent block.
  const BlockLayout layout(shape);
  return kRowsAtOnce * (padded_q(shape.k_dim) + layout.v_padded + 2 * kLanes) + kLanes + 2 + layout.v_padded +
         (shape.latent ? layout.v_part_words() + kLanes : 0);
}

void check_attention_args(const AttentionArgs& args) {
  if (args.partial != nullptr) return;
  const int64_t last = args.first_position + args.token_end - 1;
  CHECK(args.split == 0 && last < kSplitTokens, "split {} of positions up to {} needs `partial`", args.split,
        last);
}

void merge_splits(const float* partials, int64_t stride, int64_t splits, int64_t v_dim, float* out) {
  float top = -std::numeric_limits<float>::infinity();
  for (int64_t s = 0; s < splits; ++s) top = partials[s * stride] > top ? partials[s * stride] : top;
  float sum = 0.0f;
  for (int64_t s = 0; s < splits; ++s) sum += std::exp(partials[s * stride] - top) * partials[s * stride + 1];
  const float inverse = 1.0f / sum;
  bool first = true;
  for (int64_t s = 0; s < splits; ++s) {
    const float* partial = partials + s * stride;
    if (partial[1] == 0.0f) continue;  // the row has no position in this split
    const float weight = std::exp(partial[0] - top) * inverse;
    if (first)
      for (int64_t c = 0; c < v_dim; ++c) out[c] = weight * partial[2 + c];
    else
      for (int64_t c = 0; c < v_dim; ++c) out[c] += weight * partial[2 + c];
    first = false;
  }
}

}  // namespace fettle
