// Llama 2 and 3 and their like (SmolLM2, R1-Distill-Llama): models.md 1.2. Optional biases by attention_bias
// and mlp_bias.
#include "arch/decoder.h"

namespace fettle {

Result<BuiltGraph> build_llama(const Checkpoint& checkpoint, const ModelFields& fields, const BuildOptions&) {
  TRY(DecoderConfig config, read_decoder_config(checkpoint, fields));
  TRY(const bool attention_bias, fields.boolean_or("attention_bias", false));
  TRY(const bool mlp_bias, fields.boolean_or("mlp_bias", false));
  return DecoderBuilder(checkpoint, fields, std::move(config))
      .build([=](DecoderBuilder& b, int64_t n, ValueId x) -> Result<ValueId> {
        const std::string hf = fmt::format("model.layers.{}.", n), name = fmt::format("layers.{}.", n);
        TRY(ValueId y, b.norm(x, name + "attn_norm", hf + "input_layernorm.weight", b.config().hidden));
        TRY(y, b.attention(n, y, {.qkv_bias = attention_bias, .output_bias = attention_bias}));
        x = b.add(x, y);
        TRY(y, b.norm(x, name + "mlp_norm", hf + "post_attention_layernorm.weight", b.config().hidden));
        TRY(y, b.gated_mlp(n, y, b.config().inner, mlp_bias));
        return b.add(x, y);
      });
}

}  // namespace fettle
