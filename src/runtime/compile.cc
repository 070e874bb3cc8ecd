#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/linear/layout.h"
#include "runtime/compiler.h"

namespace fettle {

Value place_value(const StoragePlan& storage, const Placement& p, const ValueType& type,
                  const HugeBuffer& arena) {
  Value value{type, arena.data() + storage.offsets[p.storage], p.ld};
  value.data += p.first_column * static_cast<int64_t>(sizeof(float));
  return value;
}

Result<Program> Compiler::run(const Part& part) {
  for (ValueId id = part.begin; id < part.end; ++id) {
    auto compiled = compile_node(id);
    if (!compiled.ok())
      return std::move(compiled).error().context(
          fmt::format("%{} ({})", id, op_info(graph_.nodes[id].op).name));
  }
  for (const CompiledStep& s : program_.steps)
    program_.scratch_floats = std::max(program_.scratch_floats, s.step->scratch_floats());
  for (size_t i = 1; i < program_.steps.size(); ++i)
    program_.steps[i - 1].barrier =
        !program_.steps[i - 1].step->ends_by_token() || !program_.steps[i].step->begins_by_token();
  return std::move(program_);
}

Result<StoredWeight> Compiler::fetch(const std::string& name) {
  TRY(StoredWeight stored, store_.get(name));
  const Shape& expected = graph_.find_weight(name)->expr->shape;
  if (stored.shape != expected)
    return bad_input("weight @{} is stored as {}; the graph says {}", name, shape_text(stored.shape),
                     shape_text(expected));
  const bool vector = expected.size() == 1;
  const int64_t members = expected.size() == 3 ? expected[0] : 1;
  program_.weight_bytes[name] =
      static_cast<uint64_t>(vector ? row_bytes(stored.scheme, expected[0]) : members * stored.member_bytes);
  return stored;
}

Result<std::vector<float>> Compiler::fetch_vector(const std::string& name) {
  TRY(const StoredWeight stored, fetch(name));
  if (stored.shape.size() != 1)
    return bad_input("weight @{} is {}; expected a vector", name, shape_text(stored.shape));
  std::vector<float> out(static_cast<size_t>(stored.shape[0]));
  scheme_info(stored.scheme).decode_row(stored.data, stored.shape[0], out.data());
  return out;
}

Result<std::vector<float>> Compiler::fetch_numbers(const std::string& name) {
  TRY(const StoredWeight stored, fetch(name));
  const int64_t rows = stored.shape[0], cols = stored.shape.back(), stride = row_bytes(stored.scheme, cols);
  std::vector<float> out(static_cast<size_t>(rows * cols));
  std::vector<std::byte> canonical(static_cast<size_t>(stride * kTileRows));
  for (int64_t begin = 0; begin < rows; begin += kTileRows) {
    const int64_t count = std::min(kTileRows, rows - begin);
    unpack_tile(stored.scheme, stored.data + begin / kTileRows * packed_tile_bytes(stored.scheme, cols),
                count, cols, canonical.data(), stride);
    for (int64_t r = 0; r < count; ++r)
      scheme_info(stored.scheme)
          .decode_row(canonical.data() + r * stride, cols, out.data() + (begin + r) * cols);
  }
  return out;
}

Result<BoundLinear> Compiler::bind(const WeightRef& ref, Form form) {
  BoundLinear linear;
  TRY(linear.weight, fetch(ref.weight));
  const Shape& shape = linear.weight.shape;
  linear.k = shape.back();
  linear.n = shape[shape.size() - 2];
  if (!ref.bias.empty()) {
    TRY(linear.bias, fetch_vector(ref.bias));
  }
  const Activation activation = activation_of(form);
  for (const KernelPlan& planned : plan_.kernels) {
    const LinearKernel* kernel = find_linear_kernel(planned.kernel);
    if (kernel && kernel->scheme == linear.weight.scheme && kernel->activation == activation &&
        kernel->isa <= options_.isa)
      linear.choices.push_back({planned.t_max, kernel->run});
  }
  const LinearKernel* best = find_linear_kernel(linear.weight.scheme, activation, options_.isa);
  if (!best)
    return unsupported("no kernel multiplies @{} ({}) by an input in {}", ref.weight,
                       scheme_name(linear.weight.scheme), activation_name(activation));
  std::sort(linear.choices.begin(), linear.choices.end(),
            [](const auto& a, const auto& b) { return a.t_max < b.t_max; });
  linear.choices.push_back({INT64_MAX, best->run});
  return linear;
}

Result<Value> Compiler::contiguous(const Node& node, int i) {
  const Value& x = in(node, i);
  if (x.type.form == Form::kF32 && x.ld != x.type.cols)
    return unsupported("reads {} of {} columns where they lie; let it read them rounded", x.type.cols, x.ld);
  return x;
}

Status Compiler::compile_node(ValueId id) {
  const Node& node = graph_.nodes[id];
  const Value& out = frame_.values[id];
  const Isa isa = options_.isa;
  switch (node.op) {
    case Op::kEmbed: {
      TRY(StoredWeight table, fetch(node.weights[0].weight));
      emit(make_embed_step(std::move(table), out), id);
      return {};
    }
    case Op::kRmsNorm: {
      std::vector<float> gain(static_cast<size_t>(node.type.cols / node.integer("heads")), 1.0f);
      if (!node.weights.empty()) {
        TRY(gain, fetch_vector(node.weights[0].weight));
      }
      emit(make_rms_norm_step(in(node, 0), std::move(gain), static_cast<float>(node.number("eps")), out, isa),
           id);
      return {};
    }
    case Op::kLayerNorm: {
      TRY(std::vector<float> gain, fetch_vector(node.weights[0].weight));
      TRY(std::vector<float> bias, fetch_vector(node.weights[1].weight));
      emit(make_layer_norm_step(in(node, 0), std::move(gain), std::move(bias),
                                static_cast<float>(node.number("eps")), out, isa),
           id);
      return {};
    }
    case Op::kQuantise:
      emit(make_quantise_step(in(node, 0), out, isa), id);
      return {};
    case Op::kLinear:
      return compile_linear(node, id);
    case Op::kColumns:
      return {};
    case Op::kRope:
      return compile_rope(node, id);
    case Op::kAttention:
      return compile_attention(node, id);
    case Op::kAdd:
      if (!frame_.storage.fused_add[node.inputs[1]])
        emit(make_add_step(in(node, 0), in(node, 1), out, isa), id);
      else
        program_.steps.back().produces = id;  // the linear just before has added already
      return {};
    case Op::kSiluMul:
      emit(make_silu_mul_step(in(node, 0), in(node, 1), static_cast<float>(node.number_or("limit", 0)), out,
                              isa),
           id);
      return {};
    case Op::kSelectRows:
      emit(make_select_rows_step(in(node, 0), out), id);
      return {};
    case Op::kLatentAttention:
      return compile_latent_attention(node, id);
    case Op::kRoute:
      return compile_route(node, id);
    case Op::kExperts:
      return compile_experts(node, id);
    case Op::kRepeat:
      emit(make_repeat_step(in(node, 0), out), id);
      return {};
    case Op::kState:
      emit(make_state_step(out), id);
      return {};
    case Op::kJoin:
      emit(make_join_step(in(node, 0), in(node, 1), out, isa), id);
      return {};
    case Op::kSimulate:
      emit(make_simulate_step(in(node, 0), out, node), id);
      return {};
    case Op::kHyperMix:
      return compile_hyper_mix(node, id);
    case Op::kHyperRead:
      emit(make_hyper_read_step(in(node, 0), in(node, 1), node.integer("streams"), out, isa), id);
      return {};
    case Op::kHyperWrite:
      emit(make_hyper_write_step({in(node, 0), in(node, 1), in(node, 2), out, node.integer("streams"), isa}),
           id);
      return {};
    case Op::kCompress:
      return compile_compress(node, id);
    case Op::kWindowAttention:
      return compile_window_attention(node, id);
    case Op::kGroupedLinear:
      return compile_grouped_linear(node, id);
    case Op::kRouteByToken:
      return compile_token_route(node, id);
    case Op::kIndex:
      return compile_index(node, id);
  }
  return unsupported("operation without a step");
}

Status Compiler::compile_rope(const Node& node, ValueId id) {
  const Rope& rope = *graph_.find_rope(node.text("rope"));
  emit(make_rope_step({.x = in(node, 0),
                       .out = frame_.values[id],
                       .heads = node.integer("heads"),
                       .at = node.integer("at"),
                       .index = &rope - graph_.ropes.data(),
                       .rope = rope,
                       .isa = options_.isa}),
       id);
  return {};
}

std::unique_ptr<RowStep> Compiler::take_producer(ValueId reader) {
  const ValueId id = graph_.nodes[reader].inputs[0];
  if (id + 1 != reader || uses_[id] != 1 || frame_.values[id].type.form == Form::kF32) return nullptr;
  if (program_.steps.empty()) return nullptr;
  CompiledStep& last = program_.steps.back();
  auto* producer = dynamic_cast<RowStep*>(last.step.get());
  if (!producer) return nullptr;
  (void)last.step.release();
  program_.steps.pop_back();
  return std::unique_ptr<RowStep>(producer);
}

Status Compiler::compile_linear(const Node& node, ValueId id) {
  TRY(const Value x, contiguous(node, 0));
  std::vector<BoundLinear> segments;
  for (const WeightRef& ref : node.weights) {
    TRY(BoundLinear segment, bind(ref, x.type.form));
    segments.push_back(std::move(segment));
  }
  emit(make_linear_step({.x = x,
                         .producer = take_producer(id),
                         .segments = std::move(segments),
                         .out = frame_.values[id],
                         .accumulate = frame_.storage.fused_add[id]}),
       id);
  return {};
}

Status Compiler::compile_route(const Node& node, ValueId id) {
  std::vector<float> bias;
  if (!node.weights.empty()) {
    TRY(bias, fetch_vector(node.weights[0].weight));
  }
  emit(make_route_step({.scores = in(node, 0),
                        .out = frame_.values[id],
                        .k = node.integer("k"),
                        .groups = node.integer("groups"),
                        .kept = node.integer("kept"),
                        .normalise = node.integer("normalise") != 0,
                        .rank_by_two = node.text("rank") == "top2",
                        .scale = static_cast<float>(node.number("scale")),
                        .score = node.text("score"),
                        .bias = std::move(bias),
                        .isa = options_.isa}),
       id);
  return {};
}

Status Compiler::compile_hyper_mix(const Node& node, ValueId id) {
  TRY(std::vector<float> base, fetch_vector(node.weights[0].weight));
  TRY(std::vector<float> scale, fetch_vector(node.weights[1].weight));
  emit(make_hyper_mix_step({.x = in(node, 0),
                            .raw = in(node, 1),
                            .out = frame_.values[id],
                            .base = std::move(base),
                            .scale = std::move(scale),
                            .streams = node.integer("streams"),
                            .iterations = node.integer("iters"),
                            .eps = static_cast<float>(node.number("eps")),
                            .norm_eps = static_cast<float>(node.number("norm_eps")),
                            .isa = options_.isa}),
       id);
  return {};
}

Status Compiler::compile_grouped_linear(const Node& node, ValueId id) {
  const Form inner = *parse_form(node.text("inner"));
  TRY(BoundLinear linear, bind(node.weights[0], inner));
  const int64_t groups = linear.weight.shape[0];
  emit(make_grouped_linear_step({.x = in(node, 0),
                                 .out = frame_.values[id],
                                 .linear = std::move(linear),
                                 .groups = groups,
                                 .inner_form = inner,
                                 .work = work(id),
                                 .isa = options_.isa}),
       id);
  return {};
}

Status Compiler::compile_token_route(const Node& node, ValueId id) {
  TRY(const std::vector<float> numbers, fetch_numbers(node.weights[0].weight));
  const int64_t experts = in(node, 0).type.cols;
  std::vector<int32_t> table;
  for (const float number : numbers) {
    if (!(number >= 0) || number >= static_cast<float>(experts) || number != std::floor(number))
      return bad_input("weight @{} sends a token to expert {}; expected 0 to {}", node.weights[0].weight,
                       number, experts - 1);
    table.push_back(static_cast<int32_t>(number));
  }
  emit(make_token_route_step({.scores = in(node, 0),
                              .out = frame_.values[id],
                              .table = std::move(table),
                              .k = node.type.cols - node.integer_or("always", 0),
                              .normalise = node.integer("normalise") != 0,
                              .scale = static_cast<float>(node.number("scale")),
                              .score = node.text("score"),
                              .isa = options_.isa}),
       id);
  return {};
}

Status Compiler::compile_experts(const Node& node, ValueId id) {
  TRY(const Value x, contiguous(node, 0));
  const Form inner_form = *parse_form(node.text("inner"));
  TRY(BoundLinear gate, bind(node.weights[0], x.type.form));
  TRY(BoundLinear up, bind(node.weights[1], x.type.form));
  TRY(BoundLinear down, bind(node.weights[2], inner_form));
  const int64_t rows = x.type.rows == Rows::kTokens ? options_.max_tokens : options_.max_logit_rows;
  emit(make_experts_step({.x = x,
                          .routes = in(node, 1),
                          .out = frame_.values[id],
                          .shape = experts_shape(graph_, node),
                          .max_rows = rows,
                          .work = work(id),
                          .gate = std::move(gate),
                          .up = std::move(up),
                          .down = std::move(down),
                          .limit = static_cast<float>(node.number_or("limit", 0)),
                          .early = node.integer_or("early", 0) != 0,
                          .accumulate = frame_.storage.fused_add[id],
                          .isa = options_.isa}),
       id);
  return {};
}

Value Compiler::plain_value(ValueId id) const {
  const Value& out = frame_.values[id];
  if (out.type.form == Form::kF32) return out;
  ValueType type = out.type;
  type.form = Form::kF32;
  return place_value(frame_.storage, frame_.storage.plain[id], type, frame_.arena);
}

std::vector<Part> split_parts(const Graph& graph) {
  std::vector<Part> parts;
  for (ValueId id = 0; id < static_cast<ValueId>(graph.nodes.size()); ++id)
    if (id == 0 || graph.nodes[id].layer != graph.nodes[id - 1].layer)
      parts.push_back({id, id + 1});
    else
      parts.back().end = id + 1;
  return parts;
}

Result<Frame> make_frame(const Graph& graph, const ExecutorOptions& options, const FrameOptions& frames) {
  Frame frame;
  frame.first_cache = frames.first_cache;
  frame.storage = plan_storage(
      graph, {options.max_tokens, options.max_logit_rows, frames.keeps_state ? state_of(graph) : -1});
  TRY(frame.arena, HugeBuffer::allocate(frame.storage.arena_bytes));
  for (size_t id = 0; id < graph.nodes.size(); ++id)
    frame.values.push_back(
        place_value(frame.storage, frame.storage.values[id], graph.nodes[id].type, frame.arena));
  return frame;
}

Result<Program> compile(const Model& model, const Part& part, const Frame& frame, KvCache& cache,
                        const ExecutorOptions& options) {
  return Compiler(model, frame, cache, options).run(part);
}

}  // namespace fettle
