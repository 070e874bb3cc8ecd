#include <algorithm>

#include "base/check.h"
#include "runtime/compile.h"

namespace fettle {

namespace {

struct Storage {
  uint64_t bytes = 0;
  int first = 0, last = 0;  // node indices between which it is alive
};

class StoragePlanner {
 public:
  StoragePlanner(const Graph& graph, const StorageOptions& options)
      : graph_(graph),
        uses_(count_uses(graph)),
        kept_(options.kept),
        max_tokens_(options.max_tokens),
        max_logit_rows_(options.max_logit_rows) {}

  StoragePlan run() {
    const int n = static_cast<int>(graph_.nodes.size());
    plan_.values.resize(n);
    plan_.plain.resize(n);
    plan_.work.assign(n, -1);
    plan_.fused_add.assign(n, false);
    for (int id = 0; id < n; ++id) place(id);
    for (int id = 0; id < n; ++id) {
      // A linear may compute the rows of the node before it (RowStep): their inputs outlive that node.
      for (const ValueId input : graph_.nodes[id].inputs) touch(plan_.values[input].storage, id + 1);
      touch(plan_.values[id].storage, id);
      touch(plan_.work[id], id);
      touch(plan_.plain[id].storage, id + 1);
    }
    touch(plan_.values[n - 1].storage, n);
    if (kept_ >= 0) touch(plan_.values[kept_].storage, n);
    assign_offsets();
    return std::move(plan_);
  }

 private:
  uint64_t bytes_of(const ValueType& type) const {
    const int64_t rows = type.rows == Rows::kTokens ? max_tokens_ : max_logit_rows_;
    if (type.form == Form::kF32) return static_cast<uint64_t>(rows * type.cols) * sizeof(float);
    if (type.form == Form::kRoutes) return static_cast<uint64_t>(rows * type.cols) * sizeof(Route);
    if (type.form == Form::kSelection) return static_cast<uint64_t>(rows * type.cols) * sizeof(int32_t);
    return static_cast<uint64_t>(activation_bytes(activation_of(type.form), rows, type.cols));
  }

  // What a node needs besides values while it runs; 0: nothing.
  uint64_t work_bytes(const Node& node) const {
    const int64_t rows = node.type.rows == Rows::kTokens ? max_tokens_ : max_logit_rows_;
    if (node.op == Op::kLatentAttention)
      return place_latent_work(latent_shape(graph_, node), rows, nullptr).bytes;
    if (node.op == Op::kGroupedLinear)
      return grouped_linear_work_bytes(grouped_linear_shape(graph_, node), rows);
    if (node.op == Op::kExperts) return place_experts_work(experts_shape(graph_, node), rows, nullptr).bytes;
    return 0;
  }

  int new_storage(const ValueType& type, int at) { return new_storage(bytes_of(type), at); }
  int new_storage(uint64_t bytes, int at) {
    storages_.push_back({bytes, at, at});
    return static_cast<int>(storages_.size()) - 1;
  }
  void touch(int storage, int at) {
    if (storage < 0) return;
    storages_[storage].last = std::max(storages_[storage].last, at);
    storages_[storage].first = std::min(storages_[storage].first, at);
  }

  // A value may be overwritten by its only reader, unless it is a view whose columns somebody else also
  // views.
  bool can_overwrite(ValueId id) const {
    if (uses_[id] != 1 || id == kept_) return false;
    const Node& node = graph_.nodes[id];
    if (node.op != Op::kColumns) return true;
    const ValueId parent = node.inputs[0];
    const int64_t begin = node.integer("begin"), end = begin + node.integer("size");
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& other = graph_.nodes[i];
      if (static_cast<ValueId>(i) == id ||
          std::find(other.inputs.begin(), other.inputs.end(), parent) == other.inputs.end())
        continue;
      if (other.op != Op::kColumns) return false;
      const int64_t other_begin = other.integer("begin"), other_end = other_begin + other.integer("size");
      if (other_begin < end && begin < other_end) return false;
    }
    return true;
  }

  // add(a, linear or experts): these accumulate into a's storage, if nobody reads a from them on but the add.
  bool fuse_add(int id) {
    const Node& add = graph_.nodes[id];
    const ValueId a = add.inputs[0], b = add.inputs[1];
    const bool accumulates = graph_.nodes[b].op == Op::kLinear || graph_.nodes[b].op == Op::kExperts;
    if (b + 1 != id || !accumulates || uses_[b] != 1 || graph_.nodes[a].op == Op::kColumns) return false;
    for (int i = b; i < static_cast<int>(graph_.nodes.size()); ++i)
      for (const ValueId input : graph_.nodes[i].inputs)
        if (input == a && i != id) return false;
    if (graph_.nodes[b].inputs[0] == a) return false;
    plan_.fused_add[b] = true;
    plan_.values[b] = plan_.values[id] = plan_.values[a];
    return true;
  }

  void place(int id) {
    const Node& node = graph_.nodes[id];
    Placement& p = plan_.values[id];
    if (node.op == Op::kColumns) {
      p = plan_.values[node.inputs[0]];
      p.first_column += node.integer("begin");
      return;
    }
    const bool in_place_op = node.op == Op::kRope || node.op == Op::kSimulate ||
                             (node.op == Op::kRmsNorm && node.integer("heads") > 1);
    if (in_place_op && node.type.form == Form::kF32 && can_overwrite(node.inputs[0])) {
      p = plan_.values[node.inputs[0]];
      return;
    }
    if (node.op == Op::kAdd && fuse_add(id)) return;
    p = {new_storage(node.type, id), 0, node.type.cols};
    if (const uint64_t bytes = work_bytes(node); bytes > 0) plan_.work[id] = new_storage(bytes, id);
    const bool attends = node.op == Op::kAttention || node.op == Op::kLatentAttention;
    if (attends && node.type.form != Form::kF32) {
      ValueType plain = node.type;
      plain.form = Form::kF32;
      plan_.plain[id] = {new_storage(plain, id), 0, node.type.cols};
    }
  }

  // Linear scan: a storage takes the smallest slot that is free over its life and large enough, else a new
  // one.
  void assign_offsets() {
    struct Slot {
      uint64_t offset, bytes;
      int busy_until;
    };
    std::vector<int> order(storages_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return storages_[a].first < storages_[b].first; });
    std::vector<Slot> slots;
    plan_.offsets.resize(storages_.size());
    for (const int s : order) {
      const Storage& storage = storages_[s];
      Slot* best = nullptr;
      for (Slot& slot : slots)
        if (slot.busy_until < storage.first && slot.bytes >= storage.bytes &&
            (!best || slot.bytes < best->bytes))
          best = &slot;
      if (!best) {
        const uint64_t bytes = (storage.bytes + 255) / 256 * 256;
        slots.push_back({plan_.arena_bytes, bytes, 0});
        plan_.arena_bytes += bytes;
        best = &slots.back();
      }
      best->busy_until = storage.last;
      plan_.offsets[s] = best->offset;
    }
  }

  const Graph& graph_;
  std::vector<int> uses_;
  ValueId kept_;
  int64_t max_tokens_, max_logit_rows_;
  std::vector<Storage> storages_;
  StoragePlan plan_;
};

}  // namespace

LatentShape latent_shape(const Graph& graph, const Node& node) {
  const Expr& key = *graph.find_weight(node.weights[0].weight)->expr;
  return {.heads = key.stack(),
          .latent = key.rows(),
          .rotated = graph.nodes[node.inputs[2]].type.cols,
          .plain = key.cols(),
          .value = node.type.cols / key.stack(),
          .inner = activation_of(*parse_form(node.text("inner")))};
}

ExpertsShape experts_shape(const Graph& graph, const Node& node) {
  const Expr& gate = *graph.find_weight(node.weights[0].weight)->expr;
  return {.k = graph.nodes[node.inputs[1]].type.cols,
          .experts = gate.stack(),
          .hidden = gate.cols(),
          .inner = gate.rows(),
          .out = node.type.cols,
          .x_form = activation_of(graph.nodes[node.inputs[0]].type.form),
          .inner_form = activation_of(*parse_form(node.text("inner")))};
}

GroupedLinearShape grouped_linear_shape(const Graph& graph, const Node& node) {
  const Expr& w = *graph.find_weight(node.weights[0].weight)->expr;
  return {w.stack(), w.cols(), activation_of(*parse_form(node.text("inner")))};
}

StoragePlan plan_storage(const Graph& graph, const StorageOptions& options) {
  return StoragePlanner(graph, options).run();
}

}  // namespace fettle
