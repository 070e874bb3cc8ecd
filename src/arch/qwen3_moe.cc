// Qwen 3 mixture of experts: the attention of qwen3; softmax router over all experts, top-k weights
// renormalised when norm_topk_prob; layers in mlp_only_layers, and those that decoder_sparse_step skips, have
// a dense MLP.
#include <algorithm>

#include "arch/decoder.h"

namespace fettle {

Result<BuiltGraph> build_qwen3_moe(const Checkpoint& checkpoint, const ModelFields& fields,
                                   const BuildOptions&) {
  TRY(DecoderConfig config, read_decoder_config(checkpoint, fields));
  TRY(const bool bias, fields.boolean_or("attention_bias", false));
  DecoderBuilder::MoeOptions moe{};
  TRY(moe.experts, fields.size("num_experts"));
  TRY(moe.k, fields.size("num_experts_per_tok"));
  TRY(moe.inner, fields.size("moe_intermediate_size"));
  TRY(moe.normalise, fields.boolean_or("norm_topk_prob", true));
  TRY(const int64_t sparse_step, fields.size_or("decoder_sparse_step", 1));
  std::vector<int64_t> dense_layers;
  if (fields.has("mlp_only_layers")) {
    TRY(dense_layers, fields.integers("mlp_only_layers"));
  }
  if (moe.k > moe.experts)
    return bad_input("{}: {} experts a token of {}", fields.file(), moe.k, moe.experts);
  return DecoderBuilder(checkpoint, fields, std::move(config))
      .build([=](DecoderBuilder& b, int64_t n, ValueId x) -> Result<ValueId> {
        const std::string hf = fmt::format("model.layers.{}.", n), name = fmt::format("layers.{}.", n);
        const bool dense =
            (n + 1) % sparse_step != 0 || std::count(dense_layers.begin(), dense_layers.end(), n) > 0;
        TRY(ValueId y, b.norm(x, name + "attn_norm", hf + "input_layernorm.weight", b.config().hidden));
        TRY(y, b.attention(n, y, {.qkv_bias = bias, .output_bias = bias, .qk_norm = true}));
        x = b.add(x, y);
        TRY(y, b.norm(x, name + "mlp_norm", hf + "post_attention_layernorm.weight", b.config().hidden));
        TRY(y, dense ? b.gated_mlp(n, y, b.config().inner) : b.moe(n, y, moe));
        return b.add(x, y);
      });
}

}  // namespace fettle
