#include "arch/decoder.h"

#include <cmath>
#include <cstdlib>

#include "arch/sizes.h"
#include "graph/text.h"

namespace fettle {

namespace {

// Graphs are built of checked numbers only. A configuration without weights is not held to the shapes of any
// tensor, so that the limits of graphs are asked for here.
Status check_config(const DecoderConfig& c, const std::string& file) {
  const auto within = [&](std::string_view what, int64_t value, int64_t most) -> Status {
    if (value >= 1 && value <= most) return {};
    return bad_input("{}: {} is {}; expected 1 to {}", file, what, value, most);
  };
  TRY_STATUS(within("num_hidden_layers", c.layers, kMostLayers));
  TRY_STATUS(within("num_attention_heads", c.heads, kMostHeads));
  TRY_STATUS(within("num_key_value_heads", c.kv_heads, kMostHeadColumns));
  TRY_STATUS(within("head_dim (hidden_size / num_attention_heads where it is absent)", c.head_dim,
                    kMostHeadColumns));
  if (c.heads % c.kv_heads != 0)
    return bad_input("{}: {} attention heads do not divide over {} key/value heads", file, c.heads,
                     c.kv_heads);
  if (!std::isfinite(c.norm_eps) || c.norm_eps < 0)
    return bad_input("{}: rms_norm_eps is {}; expected a number of at least 0", file, c.norm_eps);
  return {};
}

}  // namespace

Result<DecoderConfig> read_decoder_config(const Checkpoint& checkpoint, const ModelFields& fields,
                                          const DecoderReading& reading) {
  DecoderConfig c{};
  TRY(c.vocab, fields.size("vocab_size"));
  TRY(c.hidden, fields.size("hidden_size"));
  TRY(c.layers, fields.size("num_hidden_layers"));
  TRY(c.heads, fields.size("num_attention_heads"));
  TRY(c.kv_heads, fields.size_or("num_key_value_heads", c.heads));
  TRY(c.head_dim, fields.size_or("head_dim", c.hidden / c.heads));
  if (reading.dense_mlp) {
    TRY(c.inner, fields.size("intermediate_size"));
  }
  TRY(c.context, fields.size_or("max_position_embeddings", 2048));
  TRY(c.norm_eps, fields.number("rms_norm_eps"));
  TRY(c.tied_head, fields.boolean_or("tie_word_embeddings", false));
  if (reading.rope) {
    c.rope = *reading.rope;
  } else {
    TRY(c.rope, rope_config(checkpoint, fields));
  }
  TRY(const std::string act, fields.string_or("hidden_act", "silu"));
  c.rope_dim = c.head_dim;
  if (act != "silu")
    return unsupported("{}: hidden_act is '{}'; this architecture is known with 'silu'", fields.file(), act);
  TRY_STATUS(check_config(c, fields.file()));
  return c;
}

DecoderBuilder::DecoderBuilder(const Checkpoint& checkpoint, const ModelFields& fields, DecoderConfig config)
    : checkpoint_(checkpoint), fields_(fields), config_(std::move(config)), ops_(&graph_) {}

bool DecoderBuilder::has_tensor(const std::string& hf_name) const {
  return resolve_tensor(checkpoint_, hf_name).ok();
}

Result<ExprPtr> DecoderBuilder::stored(const std::string& hf_name, const Shape& shape) {
  // A configuration alone still has a graph: its shapes are what `inspect` and `plan` need.
  if (!checkpoint_.has_weights())
    return source_expr(hf_name, presumed_scheme(checkpoint_.config(), hf_name, shape), shape);
  TRY(const TensorRef ref, resolve_tensor(checkpoint_, hf_name));
  const StoredTensor& tensor = *checkpoint_.find(ref.name);
  if (!tensor.scheme)
    return unsupported("{}: tensor '{}' is stored as {}", checkpoint_.path(), ref.name,
                       tensor.storage_name());
  if (tensor.shape != shape)
    return bad_input("{}: tensor '{}' is {}; the configuration says {}", checkpoint_.path(), ref.name,
                     shape_text(tensor.shape), shape_text(shape));
  consumed_.insert(ref.name);
  return source_expr(ref.name, *tensor.scheme, shape);
}

Result<ExprPtr> DecoderBuilder::numbers(const std::string& hf_name, const Shape& shape) {
  if (!checkpoint_.has_weights()) return source_expr(hf_name, Scheme::kF32, shape);
  TRY(const TensorRef ref, resolve_tensor(checkpoint_, hf_name));
  const StoredTensor& tensor = *checkpoint_.find(ref.name);
  if ((tensor.dtype != DType::kI64 && tensor.dtype != DType::kI32) || tensor.shape != shape)
    return bad_input("{}: tensor '{}' is {} {}; expected whole numbers {}", checkpoint_.path(), ref.name,
                     tensor.storage_name(), shape_text(tensor.shape), shape_text(shape));
  consumed_.insert(ref.name);
  return source_expr(ref.name, Scheme::kF32, shape);
}

Result<std::string> DecoderBuilder::tensor(const std::string& name, const std::string& hf_name,
                                           const Shape& shape) {
  TRY(ExprPtr expr, stored(hf_name, shape));
  return ops_.weight(name, std::move(expr));
}

Result<ValueId> DecoderBuilder::norm(ValueId x, const std::string& name, const std::string& hf_name,
                                     int64_t width, NormOptions options) {
  TRY(std::string gain, tensor(name, hf_name, {width}));
  return ops_.add(Op::kRmsNorm, {x}, {{gain, ""}},
                  {{"eps", options.eps > 0 ? options.eps : config_.norm_eps}, {"heads", options.heads}});
}

Result<ValueId> DecoderBuilder::linear(ValueId x, const std::string& name, const std::string& hf_prefix,
                                       int64_t rows, LinearOptions options) {
  TRY(ExprPtr expr, stored(hf_prefix + ".weight", {rows, graph_.nodes[x].type.cols}));
  // GGUF stores the rotary projections of this family for neighbouring pairs; the graph always works on
  // halves.
  const bool permuted = options.rope_heads > 0 && checkpoint_.format() == SourceFormat::kGguf &&
                        fields_.architecture() == "llama";
  if (permuted) expr = permute_rows_expr(std::move(expr), "rope_halves", options.rope_heads);
  WeightRef ref{ops_.weight(name, std::move(expr)), ""};
  if (options.bias) {
    if (permuted) return unsupported("{}: '{}' has a bias and permuted rows", checkpoint_.path(), hf_prefix);
    TRY(ref.bias, tensor(name + ".bias", hf_prefix + ".bias", {rows}));
  }
  return ops_.add(Op::kLinear, {x}, {ref});
}

Result<ValueId> DecoderBuilder::attention(int64_t layer, ValueId x, AttentionOptions options) {
  const std::string hf = hf_layer(layer) + "self_attn.", name = fmt::format("layers.{}.", layer);
  const int64_t q_rows = config_.heads * config_.head_dim, kv_rows = config_.kv_heads * config_.head_dim;
  TRY(ValueId q, linear(x, name + "q", hf + "q_proj", q_rows, {config_.heads, options.qkv_bias}));
  TRY(ValueId k, linear(x, name + "k", hf + "k_proj", kv_rows, {config_.kv_heads, options.qkv_bias}));
  TRY(const ValueId v, linear(x, name + "v", hf + "v_proj", kv_rows, {0, options.qkv_bias}));
  if (options.qk_norm) {
    TRY(q, norm(q, name + "q_norm", hf + "q_norm.weight", config_.head_dim, {.heads = config_.heads}));
    TRY(k, norm(k, name + "k_norm", hf + "k_norm.weight", config_.head_dim, {.heads = config_.kv_heads}));
  }
  q = ops_.add(Op::kRope, {q}, {}, {{"rope", "rope"}, {"heads", config_.heads}, {"at", int64_t{0}}});
  k = ops_.add(Op::kRope, {k}, {}, {{"rope", "rope"}, {"heads", config_.kv_heads}, {"at", int64_t{0}}});
  graph_.caches.push_back({layer, config_.kv_heads, config_.head_dim, config_.head_dim, "f32"});
  const double scale = 1 / std::sqrt(static_cast<double>(config_.head_dim));
  const ValueId o = ops_.add(Op::kAttention, {q, k, v}, {}, {{"heads", config_.heads}, {"scale", scale}});
  return linear(o, name + "o", hf + "o_proj", config_.hidden, {0, options.output_bias});
}

Result<ValueId> DecoderBuilder::latent_attention(int64_t layer, ValueId x, const LatentAttentionOptions& o) {
  constexpr double kLatentEps = 1e-6;  // whatever the configuration says of the other norms
  const std::string hf = hf_layer(layer) + "self_attn.", name = fmt::format("layers.{}.", layer);
  const int64_t heads = config_.heads, rotated = config_.rope_dim;
  ValueId q = x;
  if (o.q_latent > 0) {
    TRY(q, linear(q, name + "q_a", hf + "q_a_proj", o.q_latent, {}));
    TRY(q, norm(q, name + "q_a_norm", hf + "q_a_layernorm.weight", o.q_latent, {.eps = kLatentEps}));
  }
  const ValueId q_latent = q;
  TRY(q, linear(q, name + (o.q_latent > 0 ? "q_b" : "q"), hf + (o.q_latent > 0 ? "q_b_proj" : "q_proj"),
                heads * (o.plain + rotated), {}));
  q = ops_.add(Op::kRope, {q}, {}, {{"rope", "rope"}, {"heads", heads}, {"at", o.plain}});
  TRY(const ValueId kv, linear(x, name + "kv_a", hf + "kv_a_proj_with_mqa", o.latent + rotated, {}));
  ValueId c = ops_.add(Op::kColumns, {kv}, {}, {{"begin", int64_t{0}}, {"size", o.latent}});
  ValueId p = ops_.add(Op::kColumns, {kv}, {}, {{"begin", o.latent}, {"size", rotated}});
  TRY(c, norm(c, name + "kv_a_norm", hf + "kv_a_layernorm.weight", o.latent, {.eps = kLatentEps}));
  if (!o.simulated.empty()) c = simulate(c, 1, o.simulated);
  p = ops_.add(Op::kRope, {p}, {}, {{"rope", "rope"}, {"heads", int64_t{1}}, {"at", int64_t{0}}});

  ExprPtr key, value;
  if (has_tensor(hf + "k_b_proj.weight")) {
    TRY(key, stored(hf + "k_b_proj.weight", {heads, o.latent, o.plain}));
    TRY(value, stored(hf + "v_b_proj.weight", {heads, o.value, o.latent}));
  } else {
    TRY(const ExprPtr both, stored(hf + "kv_b_proj.weight", {heads * (o.plain + o.value), o.latent}));
    key = transpose_expr(split_heads_expr(both, heads, 0, o.plain));
    value = split_heads_expr(both, heads, o.plain, o.value);
  }
  const WeightRef key_ref{ops_.weight(name + "k_b", std::move(key)), ""},
      value_ref{ops_.weight(name + "v_b", std::move(value)), ""};
  graph_.caches.push_back({layer, 1, o.latent + rotated, o.latent, "f32", CacheKind::kLatent});
  std::vector<ValueId> inputs = {q, c, p};
  if (o.choose) {
    TRY(const ValueId chosen, o.choose(*this, layer, x, q_latent));
    inputs.push_back(chosen);
  }
  const ValueId y = ops_.add(Op::kLatentAttention, std::move(inputs), {key_ref, value_ref},
                             {{"heads", heads}, {"scale", o.scale}, {"inner", "f32"}});
  return linear(y, name + "o", hf + "o_proj", config_.hidden, {});
}

Result<ValueId> DecoderBuilder::gated_mlp(int64_t layer, ValueId x, int64_t inner, bool bias,
                                          const std::string& part, double limit) {
  const std::string hf = hf_layer(layer) + part + ".",
                    name = fmt::format("layers.{}.{}", layer, part == "mlp" ? "" : "shared.");
  TRY(const ValueId gate, linear(x, name + "gate", hf + "gate_proj", inner, {0, bias}));
  TRY(const ValueId up, linear(x, name + "up", hf + "up_proj", inner, {0, bias}));
  std::map<std::string, Attr> attrs;
  if (limit > 0) attrs["limit"] = limit;
  const ValueId h = ops_.add(Op::kSiluMul, {gate, up}, {}, std::move(attrs));
  return linear(h, name + "down", hf + "down_proj", config_.hidden, {0, bias});
}

Result<std::string> DecoderBuilder::expert_stack(const std::string& name, const std::string& pattern,
                                                 const Shape& shape) {
  if (!checkpoint_.has_weights())
    return ops_.weight(name,
                       stack_expr(pattern, presumed_scheme(checkpoint_.config(), pattern, shape), shape));
  const auto member = [&](int64_t e) { return fmt::format(fmt::runtime(pattern), e); };
  TRY(const TensorRef first, resolve_tensor(checkpoint_, member(0)));
  const StoredTensor& tensor = *checkpoint_.find(first.name);
  if (tensor.shape.size() == 3) {
    TRY(ExprPtr expr, stored(member(0), shape));
    return ops_.weight(name, std::move(expr));
  }
  std::optional<Scheme> scheme;
  for (int64_t e = 0; e < shape[0]; ++e) {
    TRY(const ExprPtr one, stored(member(e), {shape[1], shape[2]}));
    if (scheme && *scheme != one->scheme)
      return unsupported("{}: '{}' is stored as {}, its neighbours as {}", checkpoint_.path(), member(e),
                         scheme_name(one->scheme), scheme_name(*scheme));
    scheme = one->scheme;
  }
  return ops_.weight(name, stack_expr(pattern, *scheme, shape));
}

// One tensor for each expert, one for all, or gate and up of all together, gate first.
Result<DecoderBuilder::ExpertStacks> DecoderBuilder::expert_stacks(const std::string& name,
                                                                   const std::string& hf,
                                                                   const MoeOptions& o) {
  ExpertStacks stacks;
  const Shape down = {o.experts, config_.hidden, o.inner};
  if (has_tensor(hf + "experts.gate_up_proj")) {
    TRY(const ExprPtr both, stored(hf + "experts.gate_up_proj", {o.experts, 2 * o.inner, config_.hidden}));
    stacks.gate = ops_.weight(name + "experts.gate", slice_rows_expr(both, 0, o.inner));
    stacks.up = ops_.weight(name + "experts.up", slice_rows_expr(both, o.inner, o.inner));
    TRY(ExprPtr all, stored(hf + "experts.down_proj", down));
    stacks.down = ops_.weight(name + "experts.down", std::move(all));
    return stacks;
  }
  const Shape in = {o.experts, o.inner, config_.hidden};
  TRY(stacks.gate, expert_stack(name + "experts.gate", hf + "experts.{}.gate_proj.weight", in));
  TRY(stacks.up, expert_stack(name + "experts.up", hf + "experts.{}.up_proj.weight", in));
  TRY(stacks.down, expert_stack(name + "experts.down", hf + "experts.{}.down_proj.weight", down));
  return stacks;
}

Result<ValueId> DecoderBuilder::moe(int64_t layer, ValueId x, MoeOptions o) {
  const std::string hf = hf_layer(layer) + "mlp.", name = fmt::format("layers.{}.", layer);
  TRY(const ValueId scores, linear(x, name + "router", hf + "gate", o.experts, {}));
  std::vector<WeightRef> bias;
  if (o.choice_bias) {
    TRY(std::string vector, tensor(name + "router.bias", hf + "gate.e_score_correction_bias", {o.experts}));
    bias.push_back({std::move(vector), ""});
  }
  const ValueId routes = ops_.add(Op::kRoute, {scores}, std::move(bias),
                                  {{"k", o.k},
                                   {"normalise", int64_t{o.normalise}},
                                   {"scale", o.scale},
                                   {"groups", o.groups},
                                   {"kept", o.kept_groups},
                                   {"score", o.score},
                                   {"rank", o.rank}});
  return moe_of(layer, x, routes, o);
}

Result<ValueId> DecoderBuilder::moe_of(int64_t layer, ValueId x, ValueId routes, const MoeOptions& o) {
  const std::string hf = hf_layer(layer) + "mlp.", name = fmt::format("layers.{}.", layer);
  TRY(const ExpertStacks e, expert_stacks(name, hf, o));
  std::map<std::string, Attr> attrs = {{"inner", "f32"}};
  if (o.limit > 0) attrs["limit"] = o.limit;
  if (o.early_weights) attrs["early"] = int64_t{1};
  const ValueId y =
      ops_.add(Op::kExperts, {x, routes}, {{e.gate, ""}, {e.up, ""}, {e.down, ""}}, std::move(attrs));
  if (o.shared_inner == 0) return y;
  TRY(const ValueId shared, gated_mlp(layer, x, o.shared_inner, false, "mlp.shared_experts", o.limit));
  return add(y, shared);
}

Status DecoderBuilder::start_graph(int64_t layers) {
  graph_ = Graph{};
  graph_.architecture = fields_.architecture();
  graph_.vocab = config_.vocab;
  graph_.hidden = config_.hidden;
  graph_.layers = layers;
  graph_.context = config_.context;
  auto rope = make_rope(config_.rope, config_.rope_dim, config_.rope_pairs);
  if (!rope.ok()) return std::move(rope).error().context(fields_.file());
  graph_.ropes.push_back(std::move(*rope));
  ops_.set_layer(-1);
  return {};
}

std::string DecoderBuilder::hf_layer(int64_t layer) const {
  if (config_.drafts_apart && layer >= config_.layers)
    return fmt::format("model.mtp.{}.", layer - config_.layers);
  return fmt::format("model.layers.{}.", layer);
}

Result<BuiltGraph> DecoderBuilder::build(const Layer& layer, const Endings& endings) {
  TRY_STATUS(start_graph(config_.layers));
  TRY(std::string table, tensor("embed", "model.embed_tokens.weight", {config_.vocab, config_.hidden}));
  ValueId x = ops_.add(Op::kEmbed, {}, {{table, ""}});
  if (endings.enter) {
    TRY(x, endings.enter(*this, x));
  }
  for (int64_t n = 0; n < config_.layers; ++n) {
    ops_.set_layer(n);
    TRY(x, layer(*this, n, x));
  }
  ops_.set_layer(-1);
  // A draft that goes on from normed rows wants all of them normed; otherwise only those selected are.
  const bool norm_all = drafts_ && !endings.draft_enter;
  if (!norm_all) x = ops_.add(Op::kSelectRows, {x});
  if (endings.leave) {
    TRY(x, endings.leave(*this, x));
  }
  TRY(x, norm(x, "norm", "model.norm.weight", config_.hidden));
  if (norm_all) x = ops_.add(Op::kSelectRows, {x});
  if (config_.tied_head) {
    ops_.add(Op::kLinear, {x}, {{table, ""}});
  } else {
    TRY(const ValueId logits, linear(x, "head", "lm_head", config_.vocab, {}));
    (void)logits;
  }
  BuiltGraph built{std::move(graph_), {}};
  if (drafts_) {
    TRY(built.draft, build_draft(layer, endings));
  }
  report_unused(&built);
  Status verified = verify_graph(built.graph);
  if (verified.ok() && built.draft) verified = verify_graph(*built.draft);
  if (verified.ok() && built.draft) verified = verify_draft(built.graph, *built.draft);
  if (!verified.ok()) return std::move(verified).error().context(fields_.file());
  return built;
}

// Layers behind the last are there for multi-token prediction.
bool DecoderBuilder::belongs_to_draft_layer(const std::string& name) const {
  if (name.starts_with("mtp.")) return true;
  for (const std::string_view prefix : {"model.layers.", "blk."})
    if (name.starts_with(prefix))
      return std::strtoll(name.c_str() + prefix.size(), nullptr, 10) >= config_.layers;
  return false;
}

void DecoderBuilder::report_unused(BuiltGraph* built) const {
  for (const StoredTensor& t : checkpoint_.tensors()) {
    if (consumed_.count(t.name)) continue;
    const char* reason = "no operation reads it";
    if (t.name == "lm_head.weight") reason = "the head is tied to the embedding";
    if (t.name == "rope_freqs.weight") reason = "rotary divisors, read into the rope table";
    if (t.name.ends_with("rotary_emb.inv_freq")) reason = "computed from the configuration";
    bool expected = t.name == "lm_head.weight" || t.name == "rope_freqs.weight" ||
                    t.name.ends_with("rotary_emb.inv_freq");
    if (belongs_to_draft_layer(t.name)) {
      expected = fields_.has("num_nextn_predict_layers");
      reason = expected ? "of a layer that drafts tokens, which is not used"
                        : "of a layer behind the last that the configuration names";
    }
    const auto copy = copies_.find(t.name);
    if (copy != copies_.end()) {
      expected = true;
      reason = copy->second.c_str();
    }
    if (!expected) built->unexpected.push_back(t.name);
    built->unused_tensors.push_back(fmt::format("{}: {}", t.name, reason));
  }
}

}  // namespace fettle
