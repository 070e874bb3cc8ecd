// DeepSeek-V3.2 (DeepSeek-AI 2025, DeepSeek-V3.2-Exp, section 2): V3 whose attention reads only the positions
// that a lightning indexer chooses. Its heads rotate their first lanes, in halves, by the angles of
// attention.
#include <cmath>

#include "arch/latent_decoder.h"

namespace fettle {

namespace {

constexpr double kIndexNormEps = 1e-6;
constexpr const char *kIndexRounding = "hadamard_e4m3_g128", *kLatentRounding = "e4m3_g128";

struct Indexer {
  int64_t heads, dim, top, rotated;
  bool simulate;  // queries and keys as the makers' kernels read them: turned, then rounded to e4m3
};

Result<Indexer> read_indexer(const ModelFields& fields, const LatentDecoder& model,
                             const BuildOptions& options) {
  Indexer m{};
  TRY(m.heads, fields.size("index_n_heads"));
  TRY(m.dim, fields.size("index_head_dim"));
  TRY(m.top, fields.size("index_topk"));
  m.rotated = model.decoder.rope_dim;
  m.simulate = options.simulate_rounding;
  if (m.heads > kMostHeads || m.dim > kMostHeadColumns || m.rotated > m.dim)
    return bad_input("{}: {} index heads of {} columns, {} of them rotated", fields.file(), m.heads, m.dim,
                     m.rotated);
  if (model.attention.q_latent == 0)
    return unsupported("{}: q_lora_rank is absent; this architecture is known with", fields.file());
  if (m.simulate && (m.dim & (m.dim - 1)) != 0)
    return unsupported("{}: index_head_dim is {}; its rounding turns heads of a power of two", fields.file(),
                       m.dim);
  return m;
}

Status add_rope(DecoderBuilder& b, const std::string& name) {
  if (b.graph().find_rope(name)) return {};
  Rope rope = *b.graph().find_rope("rope");
  rope.name = name;
  rope.pairs = false;
  b.graph().ropes.push_back(std::move(rope));
  return {};
}

Result<ValueId> choose(DecoderBuilder& b, const Indexer& m, int64_t layer, ValueId x, ValueId q_latent) {
  const std::string hf = b.hf_layer(layer) + "self_attn.indexer.",
                    name = fmt::format("layers.{}.index.", layer);
  TRY_STATUS(add_rope(b, "index"));
  const auto rotate = [&](ValueId value, int64_t heads) {
    return b.ops().add(Op::kRope, {value}, {}, {{"rope", "index"}, {"heads", heads}, {"at", int64_t{0}}});
  };
  TRY(ValueId q, b.linear(q_latent, name + "q", hf + "wq_b", m.heads * m.dim, {}));
  q = rotate(q, m.heads);
  if (m.simulate) q = b.simulate(q, m.heads, kIndexRounding);
  TRY(ValueId k, b.linear(x, name + "k", hf + "wk", m.dim, {}));
  TRY(const std::string gain, b.tensor(name + "k_norm", hf + "k_norm.weight", {m.dim}));
  TRY(const std::string bias, b.tensor(name + "k_norm.bias", hf + "k_norm.bias", {m.dim}));
  k = b.ops().add(Op::kLayerNorm, {k}, {{gain, ""}, {bias, ""}}, {{"eps", kIndexNormEps}});
  k = rotate(k, 1);
  if (m.simulate) k = b.simulate(k, 1, kIndexRounding);
  TRY(const ValueId w, b.linear(x, name + "weights", hf + "weights_proj", m.heads, {}));
  b.graph().caches.push_back({layer, 1, m.dim, m.dim, "f32", CacheKind::kLatent, "index"});
  // Weights times heads^(-1/2), scores times dim^(-1/2): relu lets both in front.
  return b.ops().add(Op::kIndex, {q, k, w}, {},
                     {{"heads", m.heads},
                      {"rate", int64_t{1}},
                      {"top", m.top},
                      {"scale", 1 / std::sqrt(static_cast<double>(m.dim * m.heads))}});
}

}  // namespace

Result<BuiltGraph> build_deepseek_v32(const Checkpoint& checkpoint, const ModelFields& fields,
                                      const BuildOptions& options) {
  TRY(LatentDecoder model, read_sigmoid_latent_decoder(checkpoint, fields));
  TRY(const Indexer indexer, read_indexer(fields, model, options));
  if (options.simulate_rounding) model.attention.simulated = kLatentRounding;
  model.attention.choose = [&indexer](DecoderBuilder& b, int64_t layer, ValueId x, ValueId q_latent) {
    return choose(b, indexer, layer, x, q_latent);
  };
  return build_latent_decoder(checkpoint, fields, model);
}

}  // namespace fettle
