#include "arch/latent_decoder.h"

#include <cmath>

namespace fettle {

namespace {

// YaRN's gain, squared, as these models are trained with it: models.md 0.3.
double score_gain(const RopeConfig& rope) {
  if (rope.kind != RopeKind::kYarn || rope.mscale_all_dim == 0 || rope.factor <= 1) return 1;
  const double gain = 0.1 * rope.mscale_all_dim * std::log(rope.factor) + 1;
  return gain * gain;
}

// GGUF counts the layers that draft tokens among its blocks, where it stores them.
Status leave_out_draft_layers(const Checkpoint& checkpoint, const ModelFields& fields,
                              DecoderConfig* decoder) {
  TRY(const int64_t drafts, fields.integer_or("num_nextn_predict_layers", 0));
  const int64_t layers = decoder->layers - drafts;
  if (fields.format() == SourceFormat::kGguf && drafts > 0 && layers > 0 &&
      checkpoint.find(fmt::format("blk.{}.nextn.eh_proj.weight", layers)))
    decoder->layers = layers;
  return {};
}

}  // namespace

Result<LatentDecoder> read_latent_decoder(const Checkpoint& checkpoint, const ModelFields& fields) {
  LatentDecoder m{};
  TRY(m.decoder, read_decoder_config(checkpoint, fields));
  TRY_STATUS(leave_out_draft_layers(checkpoint, fields, &m.decoder));
  TRY(m.attention.latent, fields.size("kv_lora_rank"));
  TRY(m.attention.q_latent, fields.integer_or("q_lora_rank", 0));
  TRY(m.decoder.rope_dim, fields.size("qk_rope_head_dim"));
  TRY(m.attention.plain, fields.size("qk_nope_head_dim"));
  TRY(m.attention.value, fields.size("v_head_dim"));
  TRY(m.decoder.rope_pairs, fields.boolean_or("rope_interleave", true));
  m.attention.scale =
      score_gain(m.decoder.rope) / std::sqrt(static_cast<double>(m.attention.plain + m.decoder.rope_dim));
  TRY(const bool bias, fields.boolean_or("attention_bias", false));
  if (bias)
    return unsupported("{}: attention_bias is true; this architecture is known without", fields.file());

  TRY(m.moe.experts, fields.size("n_routed_experts"));
  TRY(m.moe.k, fields.size("num_experts_per_tok"));
  TRY(m.moe.inner, fields.size("moe_intermediate_size"));
  TRY(m.moe.scale, fields.number_or("routed_scaling_factor", 1.0));
  TRY(m.moe.groups, fields.size_or("n_group", 1));
  TRY(m.moe.kept_groups, fields.size_or("topk_group", m.moe.groups));
  TRY(const int64_t shared, fields.integer_or("n_shared_experts", 0));
  if (shared < 0 || shared > m.moe.experts)
    return bad_input("{}: n_shared_experts is {}; expected 0 to {}", fields.file(), shared, m.moe.experts);
  m.moe.shared_inner = shared * m.moe.inner;
  TRY(m.dense_layers, fields.integer_or("first_k_dense_replace", 0));
  TRY(m.moe_every, fields.size_or("moe_layer_freq", 1));
  if (m.moe.experts % m.moe.groups != 0 || m.moe.kept_groups > m.moe.groups ||
      m.moe.k > m.moe.experts / m.moe.groups * m.moe.kept_groups)
    return bad_input("{}: {} experts a token out of {} of {} groups of {} experts", fields.file(), m.moe.k,
                     m.moe.kept_groups, m.moe.groups, m.moe.experts);
  return m;
}

Result<BuiltGraph> build_latent_decoder(const Checkpoint& checkpoint, const ModelFields& fields,
                                        const LatentDecoder& m) {
  return DecoderBuilder(checkpoint, fields, m.decoder)
      .build_with_draft([&m](DecoderBuilder& b, int64_t n, ValueId x) -> Result<ValueId> {
        const std::string hf = fmt::format("model.layers.{}.", n), name = fmt::format("layers.{}.", n);
        TRY(ValueId y, b.norm(x, name + "attn_norm", hf + "input_layernorm.weight", b.config().hidden));
        TRY(y, b.latent_attention(n, y, m.attention));
        x = b.add(x, y);
        TRY(y, b.norm(x, name + "mlp_norm", hf + "post_attention_layernorm.weight", b.config().hidden));
        const bool dense = n < m.dense_layers || n % m.moe_every != 0;
        TRY(y, dense ? b.gated_mlp(n, y, b.config().inner) : b.moe(n, y, m.moe));
        return b.add(x, y);
      });
}

}  // namespace fettle
