#include "arch/sizes.h"

#include <algorithm>
#include <set>

namespace fettle {

namespace {

// Matrices that makers leave in bf16 where they code the rest, by what is in their names; others are fp32.
constexpr std::string_view kPlain[] = {"embed_tokens",       "lm_head",         "mlp.gate.",
                                       "shared_head",        "weights_proj",    "eh_proj",
                                       "compressor.kv_proj", "indexer.kv_proj", "compressor.gate_proj",
                                       "indexer.gate_proj"};
constexpr std::string_view kFloat[] = {"position_bias", "_hc.", "hc_head"};

template <size_t N>
bool has_one_of(const std::string& name, const std::string_view (&words)[N]) {
  return std::any_of(std::begin(words), std::end(words),
                     [&](std::string_view word) { return name.find(word) != name.npos; });
}

bool says(const Json& config, const char* field, const char* value) {
  const auto it = config.find(field);
  return it != config.end() && it->is_string() && it->get<std::string>() == value;
}

// Codes of f8b128 come with one scale for 128 x 128 of them.
uint64_t leaf_bytes(const Expr& leaf) {
  const int64_t rows = leaf.rows(), cols = leaf.cols();
  const int64_t one = leaf.scheme == Scheme::kF8B128 ? rows * cols + 4 * f8_blocks(rows) * f8_blocks(cols)
                                                     : rows * row_bytes(leaf.scheme, cols);
  return static_cast<uint64_t>(leaf.stack() * one);
}

std::string part_of(const std::string& weight, const BuiltGraph& built) {
  if (!built.graph.find_weight(weight)) return "draft";
  if (!weight.starts_with("layers.")) return "embedding_and_head";
  const std::string name = weight.substr(weight.find('.', 7) + 1), first = name.substr(0, name.find('.'));
  if (first == "experts") return "experts";
  if (first == "shared") return "shared_experts";
  if (first == "router") return "routers";
  if (first == "gate" || first == "up" || first == "down") return "dense_mlp";
  if (name.ends_with("attn_norm") || name.ends_with("mlp_norm") || name.ends_with("ffn_norm") ||
      first.ends_with("_hc"))
    return "norms_and_streams";
  return "attention";
}

void count_leaves(const Expr& expr, const std::string& part, std::set<std::string>& met, SourceSizes* sizes) {
  for (const ExprPtr& arg : expr.args) count_leaves(*arg, part, met, sizes);
  if (!expr.args.empty() || !met.insert(expr.name).second) return;
  const uint64_t bytes = leaf_bytes(expr);
  StorageCount& count = sizes->by_scheme[std::string(scheme_name(expr.scheme))];
  count.tensors += expr.kind == ExprKind::kStack ? expr.stack() : 1;
  count.bytes += bytes;
  sizes->by_part[part] += bytes;
  sizes->total += bytes;
}

}  // namespace

Scheme presumed_scheme(const Json& config, const std::string& hf_name, const Shape& shape) {
  const auto quantisation = config.find("quantization_config");
  const bool coded =
      quantisation != config.end() && quantisation->is_object() && says(*quantisation, "quant_method", "fp8");
  if (!coded) return Scheme::kBF16;
  if (has_one_of(hf_name, kFloat) || hf_name.ends_with("e_score_correction_bias")) return Scheme::kF32;
  if (shape.size() < 2 || has_one_of(hf_name, kPlain)) return Scheme::kBF16;
  const bool expert = hf_name.find("mlp.experts.") != hf_name.npos;
  return expert && says(config, "expert_dtype", "fp4") && row_fits(Scheme::kMXFP4, shape.back())
             ? Scheme::kMXFP4
             : Scheme::kF8B128;
}

SourceSizes source_sizes(const BuiltGraph& built) {
  SourceSizes sizes;
  std::set<std::string> met;
  for (const Weight& w : all_weights(built.graph, built.draft))
    count_leaves(*w.expr, part_of(w.name, built), met, &sizes);
  return sizes;
}

}  // namespace fettle
