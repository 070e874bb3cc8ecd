// DeepSeek-V4 (released code of V4-Flash and V4-Pro; models.md 4): residual streams mixed by constrained
// hyper-connections; attention over a sliding window and, by layer, over entries that stand for some tokens
// each, all of them or those an indexer chooses; one key that is the value too, turned back after attention;
// a grouped output projection; experts chosen by score + bias, or in the first layers by the token itself.
#include <cmath>

#include "arch/decoder.h"

namespace fettle {

namespace {

// How the makers' kernels round keys, entries and what the indexer compares; a switch.
constexpr const char *kEntryRounding = "e4m3_g64", *kIndexRounding = "hadamard_e2m1_g32";
constexpr int64_t kOverlapping = 4;  // the one rate whose entries overlap and are chosen by an indexer

struct V4 {
  DecoderConfig decoder;
  DecoderBuilder::MoeOptions moe;
  RopePair ropes;
  int64_t q_latent, out_latent, out_groups, window, hash_layers;
  int64_t index_heads, index_dim, index_top;
  int64_t streams, sinkhorn;
  double hyper_eps;
  bool simulate;
  std::vector<int64_t> rates;  // by layer; 0: the window alone
};

// compress_ratios by layer, or layer_types with a rate for each type.
Result<std::vector<int64_t>> read_rates(const ModelFields& fields, int64_t layers) {
  std::vector<int64_t> rates;
  if (fields.has("compress_ratios")) {
    TRY(rates, fields.integers("compress_ratios"));
  } else {
    TRY(const JsonReader all, fields.object("compress_rates"));
    TRY(const std::vector<std::string> types, fields.strings("layer_types"));
    for (const std::string& type : types) {
      rates.push_back(0);
      if (type == "sliding_attention") continue;
      TRY(rates.back(), all.integer(type));
    }
  }
  if (static_cast<int64_t>(rates.size()) < layers)
    return bad_input("{}: {} layers have {} entries of compress_ratios or layer_types; expected one for each",
                     fields.file(), layers, rates.size());
  for (const int64_t rate : rates)
    if (rate < 0 || rate == 1 || rate > kMostRate)
      return bad_input("{}: a layer compresses at rate {}; expected 0 or 2 to {}", fields.file(), rate,
                       kMostRate);
  return rates;
}

// Later models of the family say with these that they need more than is here.
Status refuse_unknown_parts(const Checkpoint& checkpoint, const ModelFields& fields) {
  for (const auto& [name, value] : checkpoint.config().items())
    if (name.starts_with("engram") || name == "vision_config")
      return unsupported("{}: field '{}' asks for a part that this architecture is not known with",
                         fields.file(), name);
  return {};
}

Status read_moe(const ModelFields& fields, DecoderBuilder::MoeOptions* moe) {
  TRY(moe->experts, fields.size("n_routed_experts"));
  TRY(moe->k, fields.size("num_experts_per_tok"));
  TRY(moe->inner, fields.size("moe_intermediate_size"));
  TRY(moe->normalise, fields.boolean_or("norm_topk_prob", true));
  TRY(moe->scale, fields.number_or("routed_scaling_factor", 1.0));
  TRY(moe->score, fields.string_or("scoring_func", "sqrtsoftplus"));
  TRY(const std::string method, fields.string_or("topk_method", "noaux_tc"));
  if (method != "noaux_tc")
    return unsupported("{}: topk_method is '{}'; expected noaux_tc", fields.file(), method);
  TRY(moe->limit, fields.number_or("swiglu_limit", 0.0));
  TRY(const int64_t shared, fields.integer_or("n_shared_experts", 1));
  if (shared < 0 || shared > moe->experts || moe->k > moe->experts)
    return bad_input("{}: {} experts a token and {} shared ones of {}", fields.file(), moe->k, shared,
                     moe->experts);
  if (!std::isfinite(moe->limit) || moe->limit < 0)
    return bad_input("{}: swiglu_limit is {}; expected a number of at least 0", fields.file(), moe->limit);
  if (moe->score != "sqrtsoftplus" && moe->score != "sigmoid" && moe->score != "softmax")
    return unsupported("{}: scoring_func is '{}'; expected sqrtsoftplus", fields.file(), moe->score);
  moe->shared_inner = shared * moe->inner;
  moe->choice_bias = true;
  return {};
}

Result<V4> read_v4(const Checkpoint& checkpoint, const ModelFields& fields, bool simulate) {
  TRY_STATUS(refuse_unknown_parts(checkpoint, fields));
  V4 m{};
  TRY(m.ropes, rope_pair(checkpoint, fields));
  m.ropes.compress.attention_factor = 1.0;  // neither cosines nor scores are scaled
  TRY(m.decoder, read_decoder_config(checkpoint, fields, {.rope = &m.ropes.main, .dense_mlp = false}));
  TRY(m.decoder.rope_dim, fields.size("qk_rope_head_dim"));
  m.decoder.rope_pairs = true;
  TRY(m.q_latent, fields.size("q_lora_rank"));
  TRY(m.out_latent, fields.size("o_lora_rank"));
  TRY(m.out_groups, fields.size("o_groups"));
  TRY(m.window, fields.size("sliding_window"));
  TRY(m.hash_layers, fields.integer_or("num_hash_layers", 0));
  TRY(m.index_heads, fields.size("index_n_heads"));
  TRY(m.index_dim, fields.size("index_head_dim"));
  TRY(m.index_top, fields.size("index_topk"));
  TRY(m.streams, fields.size("hc_mult"));
  TRY(m.sinkhorn, fields.size("hc_sinkhorn_iters"));
  TRY(m.hyper_eps, fields.number("hc_eps"));
  TRY(const bool bias, fields.boolean_or("attention_bias", false));
  if (bias)
    return unsupported("{}: attention_bias is true; this architecture is known without", fields.file());
  TRY(m.rates, read_rates(fields, m.decoder.layers));
  m.rates.resize(std::max<size_t>(m.rates.size(), static_cast<size_t>(m.decoder.layers) + 1), 0);
  m.decoder.drafts_apart = true;
  m.simulate = m.moe.early_weights = simulate;
  if (simulate && (m.index_dim & (m.index_dim - 1)) != 0)
    return unsupported("{}: index_head_dim is {}; only powers of two are rotated before rounding",
                       fields.file(), m.index_dim);
  TRY_STATUS(read_moe(fields, &m.moe));
  if (m.decoder.heads % m.out_groups != 0 || m.decoder.rope_dim > std::min(m.decoder.head_dim, m.index_dim) ||
      m.decoder.rope_dim % 2 != 0 || m.streams > kMostStreams || m.sinkhorn > 1000)
    return bad_input(
        "{}: {} heads of {} in {} groups, {} rotated lanes, index heads of {}, {} streams, {} iterations",
        fields.file(), m.decoder.heads, m.decoder.head_dim, m.out_groups, m.decoder.rope_dim, m.index_dim,
        m.streams, m.sinkhorn);
  return m;
}

// Rotation, and what undoes it.
Status add_ropes(DecoderBuilder& b, const V4& m) {
  for (const auto& [name, config] :
       {std::pair("compress", &m.ropes.compress), std::pair("main", &m.ropes.main)}) {
    TRY(Rope rope, make_rope(*config, m.decoder.rope_dim, true));
    if (std::string_view(name) == "compress") {
      rope.name = name;
      b.graph().ropes.push_back(rope);
    }
    rope.name = std::string(name) + "_back";
    for (float& f : rope.inv_freq) f = -f;
    b.graph().ropes.push_back(std::move(rope));
  }
  return {};
}

class LayerBuilder {
 public:
  LayerBuilder(DecoderBuilder& builder, const V4& model, int64_t layer)
      : b_(builder),
        m_(model),
        layer_(layer),
        rate_(model.rates[static_cast<size_t>(layer)]),
        hf_(builder.hf_layer(layer)),
        name_(fmt::format("layers.{}.", layer)) {}

  Result<ValueId> run(ValueId x) {
    TRY(x, site(x, "attn", "input_layernorm", [this](ValueId y) { return attention(y); }));
    return site(x, "ffn", "post_attention_layernorm", [this](ValueId y) { return mlp(y); });
  }

 private:
  GraphBuilder& ops() { return b_.ops(); }
  int64_t dim() const { return m_.decoder.head_dim; }
  std::string rope() const { return rate_ == 0 ? "rope" : "compress"; }

  // One read and write of the streams around a part of the layer.
  template <typename Part>
  Result<ValueId> site(ValueId x, const std::string& part, const std::string& norm, Part run) {
    TRY(const ValueId mix,
        hyper_mix(b_, m_, x, name_ + part + "_hc.", hf_ + part + "_hc.", (2 + m_.streams) * m_.streams));
    ValueId y = ops().add(Op::kHyperRead, {x, mix}, {}, {{"streams", m_.streams}});
    TRY(y, b_.norm(y, name_ + part + "_norm", hf_ + norm + ".weight", m_.decoder.hidden));
    TRY(y, run(y));
    return ops().add(Op::kHyperWrite, {x, y, mix}, {}, {{"streams", m_.streams}});
  }

 public:
  static Result<ValueId> hyper_mix(DecoderBuilder& b, const V4& m, ValueId x, const std::string& name,
                                   const std::string& hf, int64_t columns) {
    TRY(const std::string fn, b.tensor(name + "fn", hf + "fn", {columns, m.streams * m.decoder.hidden}));
    TRY(const std::string base, b.tensor(name + "base", hf + "base", {columns}));
    TRY(const std::string scale, b.tensor(name + "scale", hf + "scale", {columns == m.streams ? 1 : 3}));
    const ValueId raw = b.ops().add(Op::kLinear, {x}, {{fn, ""}});
    return b.ops().add(Op::kHyperMix, {x, raw}, {{base, ""}, {scale, ""}},
                       {{"streams", m.streams},
                        {"iters", m.sinkhorn},
                        {"eps", m.hyper_eps},
                        {"norm_eps", m.decoder.norm_eps}});
  }

 private:
  ValueId rotate(ValueId x, const std::string& rope, int64_t heads, int64_t width) {
    return ops().add(Op::kRope, {x}, {},
                     {{"rope", rope}, {"heads", heads}, {"at", width - m_.decoder.rope_dim}});
  }

  ValueId rounded(ValueId x, int64_t heads, const char* kind, int64_t width) {
    return m_.simulate ? b_.simulate(x, heads, kind, width) : x;
  }

  Result<ValueId> attention(ValueId x) {
    const std::string hf = hf_ + "self_attn.";
    const int64_t heads = m_.decoder.heads;
    TRY(ValueId latent, b_.linear(x, name_ + "q_a", hf + "q_a_proj", m_.q_latent, {}));
    TRY(latent, b_.norm(latent, name_ + "q_a_norm", hf + "q_a_norm.weight", m_.q_latent));
    TRY(ValueId q, b_.linear(latent, name_ + "q_b", hf + "q_b_proj", heads * dim(), {}));
    q = ops().add(Op::kRmsNorm, {q}, {}, {{"heads", heads}, {"eps", m_.decoder.norm_eps}});
    q = rotate(q, rope(), heads, dim());
    TRY(ValueId kv, b_.linear(x, name_ + "kv", hf + "kv_proj", dim(), {}));
    TRY(kv, b_.norm(kv, name_ + "kv_norm", hf + "kv_norm.weight", dim()));
    kv = rounded(rotate(kv, rope(), 1, dim()), 1, kEntryRounding, dim() - m_.decoder.rope_dim);
    cache({.kv_heads = 1, .k_dim = dim(), .v_dim = dim(), .kind = CacheKind::kLatent, .window = m_.window});
    std::vector<ValueId> inputs = {q, kv};
    std::map<std::string, Attr> attrs = {
        {"heads", heads}, {"window", m_.window}, {"scale", 1 / std::sqrt(static_cast<double>(dim()))}};
    if (rate_ != 0) {
      TRY(ValueId entries, compress(x, "compress.", hf + "compressor.", dim(), "recent"));
      entries = rounded(entries, 1, kEntryRounding, dim() - m_.decoder.rope_dim);
      cache(entry_cache("entries", dim()));
      inputs.push_back(entries);
      attrs["rate"] = rate_;
    }
    if (rate_ == kOverlapping) {
      TRY(const ValueId chosen, index(x, latent, hf + "compressor.indexer."));
      inputs.push_back(chosen);
    }
    TRY(const std::string sink, b_.tensor(name_ + "sink", hf + "sinks", {heads}));
    ValueId o = ops().add(Op::kWindowAttention, std::move(inputs), {{sink, ""}}, std::move(attrs));
    o = rotate(o, rate_ == 0 ? "main_back" : "compress_back", heads, dim());
    const int64_t group = heads * dim() / m_.out_groups;
    TRY(ExprPtr a, b_.stored(hf + "o_a_proj.weight", {m_.out_groups * m_.out_latent, group}));
    const std::string grouped =
        ops().weight(name_ + "o_a", split_heads_expr(std::move(a), m_.out_groups, 0, m_.out_latent));
    o = ops().add(Op::kGroupedLinear, {o}, {{grouped, ""}}, {{"inner", "f32"}});
    return b_.linear(o, name_ + "o_b", hf + "o_b_proj", m_.decoder.hidden, {});
  }

  void cache(CacheSpec spec) {
    spec.layer = layer_;
    b_.graph().caches.push_back(std::move(spec));
  }
  CacheSpec entry_cache(const std::string& role, int64_t width) const {
    return {.kv_heads = 1,
            .k_dim = width,
            .v_dim = width,
            .kind = CacheKind::kLatent,
            .role = role,
            .rate = rate_};
  }

  Result<ValueId> compress(ValueId x, const std::string& name, const std::string& hf, int64_t width,
                           const std::string& rows) {
    const bool overlaps = rate_ == kOverlapping;
    const int64_t columns = overlaps ? 2 * width : width;
    TRY(const ValueId a, b_.linear(x, name_ + name + "kv", hf + "kv_proj", columns, {}));
    TRY(const ValueId gate, b_.linear(x, name_ + name + "gate", hf + "gate_proj", columns, {}));
    TRY(const std::string shift, b_.tensor(name_ + name + "shift", hf + "position_bias", {rate_, columns}));
    TRY(const std::string gain, b_.tensor(name_ + name + "norm", hf + "kv_norm.weight", {width}));
    cache({.kv_heads = 1,
           .k_dim = 2 * columns,
           .v_dim = 2 * columns,
           .kind = CacheKind::kRows,
           .role = rows,
           .window = overlaps ? 2 * rate_ : rate_});
    return ops().add(Op::kCompress, {a, gate}, {{shift, ""}, {gain, ""}},
                     {{"rate", rate_},
                      {"at", width - m_.decoder.rope_dim},
                      {"eps", m_.decoder.norm_eps},
                      {"rope", "compress"},
                      {"rows", rows}});
  }

  Result<ValueId> index(ValueId x, ValueId latent, const std::string& hf) {
    TRY(ValueId q, b_.linear(latent, name_ + "index.q", hf + "q_b_proj", m_.index_heads * m_.index_dim, {}));
    q = rounded(rotate(q, rope(), m_.index_heads, m_.index_dim), m_.index_heads, kIndexRounding,
                m_.index_dim);
    TRY(ValueId k, compress(x, "index.", hf, m_.index_dim, "index_recent"));
    k = rounded(k, 1, kIndexRounding, m_.index_dim);
    cache(entry_cache("index", m_.index_dim));
    const std::string scorer = b_.has_tensor(hf + "weights_proj.weight") ? "" : "scorer.";
    TRY(const ValueId w,
        b_.linear(x, name_ + "index.weights", hf + scorer + "weights_proj", m_.index_heads, {}));
    return ops().add(Op::kIndex, {q, k, w}, {},
                     {{"heads", m_.index_heads},
                      {"rate", rate_},
                      {"top", m_.index_top},
                      {"scale", 1 / std::sqrt(static_cast<double>(m_.index_dim * m_.index_heads))}});
  }

  Result<ValueId> mlp(ValueId x) {
    if (layer_ >= m_.hash_layers) return b_.moe(layer_, x, m_.moe);
    const std::string hf = hf_ + "mlp.";
    TRY(const ValueId scores, b_.linear(x, name_ + "router", hf + "gate", m_.moe.experts, {}));
    TRY(ExprPtr numbers, b_.numbers(hf + "gate.tid2eid", {m_.decoder.vocab, m_.moe.k}));
    const std::string table = ops().weight(name_ + "router.table", std::move(numbers));
    const ValueId routes = ops().add(
        Op::kRouteByToken, {scores}, {{table, ""}},
        {{"normalise", int64_t{m_.moe.normalise}}, {"scale", m_.moe.scale}, {"score", m_.moe.score}});
    return b_.moe_of(layer_, x, routes, m_.moe);
  }

  DecoderBuilder& b_;
  const V4& m_;
  int64_t layer_, rate_;
  std::string hf_, name_;
};

// The streams to one, for the head.
Result<ValueId> collapse(DecoderBuilder& b, const V4& m, ValueId x, const std::string& name,
                         const std::string& hf) {
  TRY(const ValueId mix, LayerBuilder::hyper_mix(b, m, x, name, hf, m.streams));
  return b.ops().add(Op::kHyperRead, {x, mix}, {}, {{"streams", m.streams}});
}

// Of the layer that drafts: every stream of the state, normed and projected, plus the token's embedding.
Result<ValueId> draft_streams(DecoderBuilder& b, const V4& m, ValueId token, const std::string& name) {
  const int64_t hidden = m.decoder.hidden;
  const std::string hf = b.hf_layer(m.decoder.layers);
  TRY_STATUS(add_ropes(b, m));
  TRY(token, b.norm(token, name + "token_norm", hf + "enorm.weight", hidden));
  TRY(token, b.linear(token, name + "token_in", hf + "e_proj", hidden, {}));
  const ValueId state = b.ops().add(Op::kState, {}, {}, {{"cols", m.streams * hidden}});
  TRY(const std::string gain, b.tensor(name + "state_norm", hf + "hnorm.weight", {hidden}));
  TRY(ExprPtr projection, b.stored(hf + "h_proj.weight", {hidden, hidden}));
  const std::string in = b.ops().weight(name + "state_in", std::move(projection));
  ValueId streams = -1;
  for (int64_t k = 0; k < m.streams; ++k) {
    ValueId one = b.ops().add(Op::kColumns, {state}, {}, {{"begin", k * hidden}, {"size", hidden}});
    one =
        b.ops().add(Op::kRmsNorm, {one}, {{gain, ""}}, {{"heads", int64_t{1}}, {"eps", m.decoder.norm_eps}});
    one = b.add(b.ops().add(Op::kLinear, {one}, {{in, ""}}), token);
    streams = k == 0 ? one : b.ops().add(Op::kJoin, {streams, one});
  }
  return streams;
}

}  // namespace

Result<BuiltGraph> build_deepseek_v4(const Checkpoint& checkpoint, const ModelFields& fields,
                                     const BuildOptions& options) {
  TRY(const V4 m, read_v4(checkpoint, fields, options.simulate_rounding));
  const std::string draft = fmt::format("layers.{}.", m.decoder.layers);
  return DecoderBuilder(checkpoint, fields, m.decoder)
      .build_with_draft(
          [&m](DecoderBuilder& b, int64_t n, ValueId x) { return LayerBuilder(b, m, n).run(x); },
          {.enter = [&m](DecoderBuilder& b, ValueId x) -> Result<ValueId> {
             TRY_STATUS(add_ropes(b, m));
             return b.ops().add(Op::kRepeat, {x}, {}, {{"count", m.streams}});
           },
           .leave = [&m](DecoderBuilder& b,
                         ValueId x) { return collapse(b, m, x, "head_hc.", "model.hc_head.hc_"); },
           .draft_enter = [&m, &draft](DecoderBuilder& b,
                                       ValueId token) { return draft_streams(b, m, token, draft); },
           .draft_leave = [&m, &draft](DecoderBuilder& b, ValueId x) -> Result<ValueId> {
             const std::string hf = b.hf_layer(m.decoder.layers);
             TRY(x, collapse(b, m, x, draft + "head_hc.", hf + "hc_head.hc_"));
             return b.norm(x, draft + "head_norm", hf + "norm.weight", m.decoder.hidden);
           }});
}

}  // namespace fettle
