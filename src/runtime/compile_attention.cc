// Attention in all its forms, and what feeds it.
#include <optional>

#include "runtime/compiler.h"

namespace fettle {

void Compiler::emit_rounded(std::unique_ptr<Step> step, ValueId id) {
  emit(std::move(step), id);
  const Value& out = frame_.values[id];
  if (out.type.form != Form::kF32) emit(make_quantise_step(plain_value(id), out, options_.isa), id);
}

Status Compiler::compile_compress(const Node& node, ValueId id) {
  TRY(std::vector<float> shift, fetch_numbers(node.weights[0].weight));
  TRY(std::vector<float> gain, fetch_vector(node.weights[1].weight));
  emit(make_compress_step({.a = in(node, 0),
                           .gate = in(node, 1),
                           .out = frame_.values[id],
                           .shift = std::move(shift),
                           .gain = std::move(gain),
                           .rate = node.integer("rate"),
                           .at = node.integer("at"),
                           .eps = static_cast<float>(node.number("eps")),
                           .rope = *graph_.find_rope(node.text("rope")),
                           .cache = &cache_,
                           .cache_index = cache_index(node, node.text("rows")),
                           .isa = options_.isa}),
       id);
  return {};
}

Status Compiler::compile_window_attention(const Node& node, ValueId id) {
  WindowAttentionStepArgs args{.q = in(node, 0),
                               .kv = in(node, 1),
                               .out = frame_.values[id],
                               .entries = {},
                               .chosen = {},
                               .sinks = {},
                               .heads = node.integer("heads"),
                               .window = node.integer("window"),
                               .rate = node.integer_or("rate", 0),
                               .scale = static_cast<float>(node.number("scale")),
                               .cache = &cache_,
                               .cache_index = cache_index(node),
                               .entry_cache_index = -1,
                               .isa = options_.isa};
  if (node.inputs.size() > 2) {
    args.entries = in(node, 2);
    args.entry_cache_index = cache_index(node, "entries");
  }
  if (node.inputs.size() > 3) args.chosen = in(node, 3);
  if (!node.weights.empty()) {
    TRY(args.sinks, fetch_vector(node.weights[0].weight));
  }
  TRY(auto step, make_window_attention_step(std::move(args)));
  emit(std::move(step), id);
  return {};
}

Status Compiler::compile_latent_attention(const Node& node, ValueId id) {
  const Value plain = plain_value(id);
  const Form inner = *parse_form(node.text("inner"));
  TRY(BoundLinear key, bind(node.weights[0], inner));
  TRY(BoundLinear value, bind(node.weights[1], inner));
  std::optional<Value> chosen;
  if (node.inputs.size() > 3) chosen = in(node, 3);
  std::optional<BoundLinear> key_rows;
  if (node.weights.size() > 2) {
    TRY(key_rows, bind(node.weights[2], inner));
  }
  TRY(auto step, make_latent_attention_step({.q = in(node, 0),
                                             .c = in(node, 1),
                                             .p = in(node, 2),
                                             .out = plain,
                                             .chosen = chosen,
                                             .key = std::move(key),
                                             .value = std::move(value),
                                             .key_rows = std::move(key_rows),
                                             .heads = node.integer("heads"),
                                             .max_rows = options_.max_tokens,
                                             .scale = static_cast<float>(node.number("scale")),
                                             .inner_form = inner,
                                             .work = work(id),
                                             .cache = &cache_,
                                             .cache_index = cache_index(node),
                                             .isa = options_.isa}));
  emit_rounded(std::move(step), id);
  return {};
}

Status Compiler::compile_attention(const Node& node, ValueId id) {
  const Value plain = plain_value(id);
  TRY(auto step, make_attention_step({.q = in(node, 0),
                                      .k = in(node, 1),
                                      .v = in(node, 2),
                                      .out = plain,
                                      .heads = node.integer("heads"),
                                      .scale = static_cast<float>(node.number("scale")),
                                      .cache = &cache_,
                                      .cache_index = cache_index(node),
                                      .isa = options_.isa}));
  emit_rounded(std::move(step), id);
  return {};
}

Status Compiler::compile_index(const Node& node, ValueId id) {
  TRY(auto step, make_index_step({.q = in(node, 0),
                                  .k = in(node, 1),
                                  .w = in(node, 2),
                                  .out = frame_.values[id],
                                  .heads = node.integer("heads"),
                                  .rate = node.integer("rate"),
                                  .top = node.integer("top"),
                                  .scale = static_cast<float>(node.number("scale")),
                                  .cache = &cache_,
                                  .cache_index = cache_index(node, "index"),
                                  .isa = options_.isa}));
  emit(std::move(step), id);
  return {};
}

}  // namespace fettle
