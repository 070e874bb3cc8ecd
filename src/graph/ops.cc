// The table of operations, in the order of Op.
#include <cstddef>

#include "graph/graph.h"

namespace fettle {

namespace {

const std::vector<OpInfo>& op_table() {
  static const std::vector<OpInfo> table = {
      // name, inputs, weights, bias, integers, numbers, texts, may round, optional integers and numbers
      {Op::kEmbed, "embed", 0, 0, 1, 1, false, {}, {}, {}},
      {Op::kRmsNorm, "rms_norm", 1, 1, 0, 1, false, {"heads"}, {"eps"}, {}, true},
      {Op::kLayerNorm, "layer_norm", 1, 1, 2, 2, false, {}, {"eps"}, {}},
      {Op::kQuantise, "quantise", 1, 1, 0, 0, false, {}, {}, {}, true},
      {Op::kLinear, "linear", 1, 1, 1, 64, true, {}, {}, {}},
      {Op::kColumns, "columns", 1, 1, 0, 0, false, {"begin", "size"}, {}, {}},
      {Op::kRope, "rope", 1, 1, 0, 0, false, {"heads", "at"}, {}, {"rope"}},
      {Op::kAttention, "attention", 3, 3, 0, 0, false, {"heads"}, {"scale"}, {}, true},
      {Op::kAdd, "add", 2, 2, 0, 0, false, {}, {}, {}},
      {Op::kSiluMul, "silu_mul", 2, 2, 0, 0, false, {}, {}, {}, true, {}, {"limit"}},
      {Op::kSelectRows, "select_rows", 1, 1, 0, 0, false, {}, {}, {}},
      {Op::kLatentAttention, "latent_attention", 3, 4, 2, 3, false, {"heads"}, {"scale"}, {"inner"}, true},
      {Op::kRoute,
       "route",
       1,
       1,
       0,
       1,
       false,
       {"k", "normalise", "groups", "kept"},
       {"scale"},
       {"score", "rank"},
       false,
       {"always"}},
      {Op::kExperts, "experts", 2, 2, 3, 3, false, {}, {}, {"inner"}, false, {"early"}, {"limit"}},
      {Op::kRepeat, "repeat", 1, 1, 0, 0, false, {"count"}, {}, {}},
      {Op::kHyperMix, "hyper_mix", 2, 2, 2, 2, false, {"streams", "iters"}, {"eps", "norm_eps"}, {}},
      {Op::kHyperRead, "hyper_read", 2, 2, 0, 0, false, {"streams"}, {}, {}},
      {Op::kHyperWrite, "hyper_write", 3, 3, 0, 0, false, {"streams"}, {}, {}},
      {Op::kCompress, "compress", 2, 2, 2, 2, false, {"rate", "at"}, {"eps"}, {"rope", "rows"}},
      {Op::kIndex, "index", 3, 3, 0, 0, false, {"heads", "rate", "top"}, {"scale"}, {}},
      {Op::kWindowAttention,
       "window_attention",
       2,
       4,
       0,
       1,
       false,
       {"heads", "window"},
       {"scale"},
       {},
       false,
       {"rate"}},
      {Op::kGroupedLinear, "grouped_linear", 1, 1, 1, 1, false, {}, {}, {"inner"}},
      {Op::kRouteByToken,
       "route_by_token",
       1,
       1,
       1,
       1,
       false,
       {"normalise"},
       {"scale"},
       {"score"},
       false,
       {"always"}},
      {Op::kSimulate, "simulate", 1, 1, 0, 0, false, {"heads", "at", "size"}, {}, {"kind"}},
      {Op::kState, "state", 0, 0, 0, 0, false, {"cols"}, {}, {}},
      {Op::kJoin, "join", 2, 2, 0, 0, false, {}, {}, {}, true},
  };
  return table;
}

}  // namespace

const OpInfo& op_info(Op op) { return op_table()[static_cast<size_t>(op)]; }
const OpInfo* find_op(std::string_view name) {
  for (const OpInfo& info : op_table())
    if (info.name == name) return &info;
  return nullptr;
}

}  // namespace fettle
