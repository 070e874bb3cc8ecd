// Qwen 2 and 2.5 (and R1-Distill-Qwen): models.md 1.2. Biases on q, k and v only. The sliding-window fields
// are ignored, as use_sliding_window is false in every released model; a model that sets it is refused.
#include "arch/decoder.h"

namespace fettle {

Result<BuiltGraph> build_qwen2(const Checkpoint& checkpoint, const ModelFields& fields, const BuildOptions&) {
  TRY(DecoderConfig config, read_decoder_config(checkpoint, fields));
  TRY(const bool sliding, fields.boolean_or("use_sliding_window", false));
  if (sliding)
    return unsupported("{}: use_sliding_window is true; only full attention is known for qwen2",
                       fields.file());
  return DecoderBuilder(checkpoint, fields, std::move(config))
      .build([](DecoderBuilder& b, int64_t n, ValueId x) -> Result<ValueId> {
        const std::string hf = fmt::format("model.layers.{}.", n), name = fmt::format("layers.{}.", n);
        TRY(ValueId y, b.norm(x, name + "attn_norm", hf + "input_layernorm.weight", b.config().hidden));
        TRY(y, b.attention(n, y, {.qkv_bias = true}));
        x = b.add(x, y);
        TRY(y, b.norm(x, name + "mlp_norm", hf + "post_attention_layernorm.weight", b.config().hidden));
        TRY(y, b.gated_mlp(n, y, b.config().inner));
        return b.add(x, y);
      });
}

}  // namespace fettle
