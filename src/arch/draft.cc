// The layer behind the last that drafts tokens (multi-token prediction): models.md 2.6.
#include <cstring>

#include "arch/decoder.h"

namespace fettle {

namespace {

bool same_bits(const StoredTensor& a, const StoredTensor& b) {
  return a.shape == b.shape && a.scheme == b.scheme && !a.scales && !b.scales && a.bytes == b.bytes &&
         std::memcmp(a.data, b.data, a.bytes) == 0;
}

}  // namespace

Result<bool> DecoderBuilder::has_draft_layer() const {
  TRY(const int64_t layers, fields_.integer_or("num_nextn_predict_layers", 0));
  const std::string first =
      hf_layer(config_.layers) + (config_.drafts_apart ? "e_proj" : "eh_proj") + ".weight";
  return layers > 0 && config_.layers < kMostLayers && (!checkpoint_.has_weights() || has_tensor(first));
}

Result<BuiltGraph> DecoderBuilder::build_with_draft(const Layer& layer, const Endings& endings) {
  TRY(drafts_, has_draft_layer());
  return build(layer, endings);
}

Result<std::string> DecoderBuilder::shared_tensor(const SharedTensor& shared, const Shape& shape) {
  if (const auto own = resolve_tensor(checkpoint_, shared.own_hf_name); own.ok()) {
    TRY(const TensorRef main, resolve_tensor(checkpoint_, shared.hf_name));
    if (!same_bits(*checkpoint_.find(main.name), *checkpoint_.find(own->name)))
      return tensor(shared.own_name, shared.own_hf_name, shape);
    copies_[own->name] = fmt::format("the same as {}, bit for bit", main.name);
  }
  return graph_.find_weight(shared.name) ? shared.name : tensor(shared.name, shared.hf_name, shape);
}

Result<ValueId> DecoderBuilder::join_token_and_state(ValueId token) {
  const int64_t n = config_.layers, hidden = config_.hidden;
  const std::string hf = hf_layer(n), name = fmt::format("layers.{}.", n);
  ValueId state = ops_.add(Op::kState, {}, {}, {{"cols", hidden}});
  TRY(token, norm(token, name + "token_norm", hf + "enorm.weight", hidden));
  TRY(state, norm(state, name + "state_norm", hf + "hnorm.weight", hidden));
  return linear(ops_.add(Op::kJoin, {token, state}), name + "join", hf + "eh_proj", hidden, {});
}

Result<Graph> DecoderBuilder::build_draft(const Layer& layer, const Endings& endings) {
  const int64_t n = config_.layers, hidden = config_.hidden;
  const std::string hf = hf_layer(n), name = fmt::format("layers.{}.", n);
  TRY_STATUS(start_graph(n + 1));
  TRY(const std::string table,
      shared_tensor({"embed", "model.embed_tokens.weight", name + "embed", hf + "embed_tokens.weight"},
                    {config_.vocab, hidden}));
  const ValueId token = ops_.add(Op::kEmbed, {}, {{table, ""}});
  ops_.set_layer(n);
  TRY(ValueId x, endings.draft_enter ? endings.draft_enter(*this, token) : join_token_and_state(token));
  TRY(x, layer(*this, n, x));
  ops_.set_layer(-1);
  if (endings.draft_leave) {
    TRY(x, endings.draft_leave(*this, ops_.add(Op::kSelectRows, {x})));
  } else {
    TRY(x, norm(x, name + "head_norm", hf + "shared_head.norm.weight", hidden));
    x = ops_.add(Op::kSelectRows, {x});
  }
  const bool tied = config_.tied_head;
  TRY(const std::string head,
      shared_tensor({tied ? "embed" : "head", tied ? "model.embed_tokens.weight" : "lm_head.weight",
                     name + "head", hf + "shared_head.head.weight"},
                    {config_.vocab, hidden}));
  ops_.add(Op::kLinear, {x}, {{head, ""}});
  return std::move(graph_);
}

}  // namespace fettle
