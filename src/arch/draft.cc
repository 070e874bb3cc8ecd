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
  const std::string first = fmt::format("model.layers.{}.eh_proj.weight", config_.layers);
  return layers > 0 && config_.layers < kMostLayers && (!checkpoint_.has_weights() || has_tensor(first));
}

Result<BuiltGraph> DecoderBuilder::build_with_draft(const Layer& layer) {
  TRY(drafts_, has_draft_layer());
  return build(layer);
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

Result<Graph> DecoderBuilder::build_draft(const Layer& layer) {
  const int64_t n = config_.layers, hidden = config_.hidden;
  const std::string hf = fmt::format("model.layers.{}.", n), name = fmt::format("layers.{}.", n);
  TRY_STATUS(start_graph(n + 1));
  TRY(const std::string table,
      shared_tensor({"embed", "model.embed_tokens.weight", name + "embed", hf + "embed_tokens.weight"},
                    {config_.vocab, hidden}));
  ValueId token = ops_.add(Op::kEmbed, {}, {{table, ""}});
  ops_.set_layer(n);
  ValueId state = ops_.add(Op::kState, {}, {}, {{"cols", hidden}});
  TRY(token, norm(token, name + "token_norm", hf + "enorm.weight", hidden));
  TRY(state, norm(state, name + "state_norm", hf + "hnorm.weight", hidden));
  const ValueId both = ops_.add(Op::kJoin, {token, state});
  TRY(ValueId x, linear(both, name + "join", hf + "eh_proj", hidden, {}));
  TRY(x, layer(*this, n, x));
  ops_.set_layer(-1);
  TRY(x, norm(x, name + "head_norm", hf + "shared_head.norm.weight", hidden));
  x = ops_.add(Op::kSelectRows, {x});
  const bool tied = config_.tied_head;
  TRY(const std::string head,
      shared_tensor({tied ? "embed" : "head", tied ? "model.embed_tokens.weight" : "lm_head.weight",
                     name + "head", hf + "shared_head.head.weight"},
                    {config_.vocab, hidden}));
  ops_.add(Op::kLinear, {x}, {{head, ""}});
  return std::move(graph_);
}

}  // namespace fettle
