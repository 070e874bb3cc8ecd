#include "kernels/attention/kernels.h"

#include <cmath>
#include <limits>

#include "base/check.h"

namespace fettle {
namespace {

constexpr AttentionKernel kKernels[] = {
#define FETTLE_ATTENTION(name, type, isa, function, moves) \
  {name, type, isa, write_kv, pack_block_##moves, read_block_##moves, function},
#include "kernels/attention/kernels.inc"
#undef FETTLE_ATTENTION
};

constexpr std::string_view kTypeNames[] = {"f32", "bf16", "int8", "fp8"};  // in the order of KvType

}  // namespace

std::string_view kv_type_name(KvType type) { return kTypeNames[static_cast<size_t>(type)]; }

Result<KvType> parse_kv_type(std::string_view name) {
  for (size_t i = 0; i < std::size(kTypeNames); ++i)
    if (name == kTypeNames[i]) return static_cast<KvType>(i);
  return make_error(Code::kUsage, "cache type \"{}\" is unknown; expected f32, bf16, int8 or fp8", name);
}

Status check_kv_shape(const KvShape& shape) {
  if (!is_coded(shape.type) || (shape.latent && shape.kv_heads == 1 && shape.v_dim % 2 == 0)) return {};
  return unsupported("a cache of {} keeps latents of an even number of columns alone",
                     kv_type_name(shape.type));
}

std::span<const AttentionKernel> attention_kernels() { return kKernels; }

const AttentionKernel* find_attention_kernel(KvType type, Isa isa) {
  for (const AttentionKernel& kernel : kKernels)
    if (kernel.type == type && kernel.isa <= isa) return &kernel;
  return nullptr;
}

int64_t attention_scratch_floats(const KvShape& shape, int64_t) {
  // A row: q, running output, 16 partial sums, maximum; a start on a cache line, one row's partial result,
  // the V part of a latent block, and the K part of a coded one.
  const BlockLayout layout(shape);
  return kRowsAtOnce * (padded_q(shape.k_dim) + layout.v_padded + 2 * kLanes) + kLanes + 2 + layout.v_padded +
         (shape.latent ? layout.v_part_words() + kLanes : 0) +
         (is_coded(shape.type) ? layout.k_part_words() + kLanes : 0);
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
