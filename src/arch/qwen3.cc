// Qwen 3: no biases (unless attention_bias says so), RMS norm of every q and k head before the rotary
// embedding.
#include "arch/decoder.h"

namespace fettle {

Result<BuiltGraph> build_qwen3(const Checkpoint& checkpoint, const ModelFields& fields, const BuildOptions&) {
  TRY(DecoderConfig config, read_decoder_config(checkpoint, fields));
  TRY(const bool bias, fields.boolean_or("attention_bias", false));
  return DecoderBuilder(checkpoint, fields, std::move(config))
      .build([bias](DecoderBuilder& b, int64_t n, ValueId x) -> Result<ValueId> {
        const std::string hf = fmt::format("model.layers.{}.", n), name = fmt::format("layers.{}.", n);
        TRY(ValueId y, b.norm(x, name + "attn_norm", hf + "input_layernorm.weight", b.config().hidden));
        TRY(y, b.attention(n, y, {.qkv_bias = bias, .output_bias = bias, .qk_norm = true}));
        x = b.add(x, y);
        TRY(y, b.norm(x, name + "mlp_norm", hf + "post_attention_layernorm.weight", b.config().hidden));
        TRY(y, b.gated_mlp(n, y, b.config().inner));
        return b.add(x, y);
      });
}

}  // namespace fettle
