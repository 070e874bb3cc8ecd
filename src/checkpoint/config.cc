#include "checkpoint/config.h"

#include <algorithm>

#include "base/show_name.h"

namespace fettle {

namespace {

// The one table between the two spellings. A GGUF key without a dot in front belongs to the architecture's
// own prefix.
struct FieldSpelling {
  std::string_view hugging_face;
  std::string_view gguf;
};
constexpr FieldSpelling kFields[] = {
    {"hidden_size", "embedding_length"},
    {"num_hidden_layers", "block_count"},
    {"num_attention_heads", "attention.head_count"},
    {"num_key_value_heads", "attention.head_count_kv"},
    {"head_dim", "attention.key_length"},
    {"intermediate_size", "feed_forward_length"},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
    {"rope_theta", "rope.freq_base"},
    {"max_position_embeddings", "context_length"},
    {"vocab_size", "vocab_size"},
    {"sliding_window", "attention.sliding_window"},
    {"num_experts", "expert_count"},
    {"n_routed_experts", "expert_count"},
    {"num_experts_per_tok", "expert_used_count"},
    {"n_shared_experts", "expert_shared_count"},
    {"moe_intermediate_size", "expert_feed_forward_length"},
    {"norm_topk_prob", "expert_weights_norm"},
    {"routed_scaling_factor", "expert_weights_scale"},
    {"n_group", "expert_group_count"},
    {"topk_group", "expert_group_used_count"},
    {"first_k_dense_replace", "leading_dense_block_count"},
    {"num_nextn_predict_layers", "nextn_predict_layers"},
    {"q_lora_rank", "attention.q_lora_rank"},
    {"kv_lora_rank", "attention.kv_lora_rank"},
    {"qk_rope_head_dim", "rope.dimension_count"},
    {"index_n_heads", "attention.indexer.head_count"},
    {"index_head_dim", "attention.indexer.key_length"},
    {"index_topk", "attention.indexer.top_k"},
    {"o_lora_rank", "attention.output_lora_rank"},
    {"o_groups", "attention.output_group_count"},
    {"num_hash_layers", "hash_layer_count"},
    {"hc_mult", "hyper_connection.count"},
    {"hc_sinkhorn_iters", "hyper_connection.sinkhorn_iterations"},
    {"hc_eps", "hyper_connection.epsilon"},
    {"compress_ratios", "attention.compress_ratios"},
    {"compress_rope_theta", "attention.compress_rope_freq_base"},
    {"bos_token_id", ".tokenizer.ggml.bos_token_id"},
    {"eos_token_id", ".tokenizer.ggml.eos_token_id"},
    {"pad_token_id", ".tokenizer.ggml.padding_token_id"},
};

// GGUF's names of architectures where they differ, with what its files leave unsaid because every reader of
// them assumes it.
struct ArchitectureSpelling {
  std::string_view gguf;
  std::string_view hugging_face;
  std::string_view with_sigmoid_gating;  // where that makes it another architecture
  bool normalises_expert_weights;
};
constexpr ArchitectureSpelling kArchitectures[] = {
    {"deepseek2", "deepseek_v2", "deepseek_v3", false},
    {"deepseek32", "deepseek_v32", "", false},
    {"deepseek4", "deepseek_v4", "", false},
    {"qwen3moe", "qwen3_moe", "", true},
};
// Of expert_gating_func.
constexpr int64_t kSigmoidGating = 2, kSqrtSoftplusGating = 4;

// Fields that a GGUF answers with its tensors.
void add_fields_of_tensors(const Checkpoint& checkpoint, const std::string& prefix, Json* values) {
  if (!checkpoint.has_weights()) return;
  (*values)["tie_word_embeddings"] = checkpoint.find("output.weight") == nullptr;
  const StoredTensor* embedding = checkpoint.find("token_embd.weight");
  if (embedding && embedding->shape.size() == 2 && !values->contains(prefix + "vocab_size"))
    (*values)["vocab_size"] = embedding->shape[0];
}

// Latent attention: GGUF gives the widths of whole heads; in its newer layout under names of their own, as
// the usual ones then describe the cache.
Status add_latent_fields(const JsonReader& reader, const std::string& prefix, Json* values) {
  if (!reader.has(prefix + "attention.kv_lora_rank")) return {};
  const auto width = [&](const std::string& name) {
    return reader.integer(prefix + name + (reader.has(prefix + name + "_mla") ? "_mla" : ""));
  };
  TRY(const int64_t key, width("attention.key_length"));
  TRY(const int64_t value, width("attention.value_length"));
  TRY(const int64_t rotated, reader.integer(prefix + "rope.dimension_count"));
  if (rotated <= 0 || key <= rotated)
    return bad_input("{}: heads of {} columns, {} of them rotated", reader.what(), key, rotated);
  (*values)["qk_nope_head_dim"] = key - rotated;
  (*values)["v_head_dim"] = value;
  TRY(const int64_t groups, reader.integer_or(prefix + "expert_group_count", 1));
  TRY(const int64_t gating, reader.integer_or(prefix + "expert_gating_func", 0));
  if (gating != kSigmoidGating) (*values)["topk_method"] = groups > 1 ? "group_limited_greedy" : "greedy";
  return {};
}

// What has one value for all layers here and one for each there, or a name and a number.
Status add_expert_fields(const JsonReader& reader, const std::string& prefix, Json* values) {
  TRY(const int64_t gating, reader.integer_or(prefix + "expert_gating_func", 0));
  if (gating == kSqrtSoftplusGating) (*values)["scoring_func"] = "sqrtsoftplus";
  const auto limit = values->find(prefix + "swiglu_clamp_exp");
  if (limit == values->end()) return {};
  const bool list = limit->is_array();
  if (list &&
      std::any_of(limit->begin(), limit->end(), [&](const Json& one) { return one != limit->front(); }))
    return unsupported("{}: field '{}swiglu_clamp_exp' differs between layers; expected one limit",
                       reader.what(), prefix);
  if (!list || !limit->empty()) (*values)["swiglu_limit"] = list ? limit->front() : *limit;
  return {};
}

}  // namespace

Result<ModelFields> ModelFields::of(const Checkpoint& checkpoint) {
  ModelFields fields;
  fields.asked_ = std::make_shared<std::set<std::string, std::less<>>>();
  fields.format_ = checkpoint.format();
  fields.values_ = checkpoint.config();
  fields.file_ = checkpoint.files().front();
  if (fields.format_ == SourceFormat::kHuggingFace) {
    TRY(fields.architecture_, fields.reader().string("model_type"));
    return fields;
  }
  TRY(const std::string architecture, fields.reader().string("general.architecture"));
  fields.architecture_ = architecture;
  fields.gguf_prefix_ = architecture + ".";
  TRY_STATUS(add_latent_fields(fields.reader(), fields.gguf_prefix_, &fields.values_));
  TRY_STATUS(add_expert_fields(fields.reader(), fields.gguf_prefix_, &fields.values_));
  add_fields_of_tensors(checkpoint, fields.gguf_prefix_, &fields.values_);
  for (const ArchitectureSpelling& entry : kArchitectures) {
    if (entry.gguf != architecture) continue;
    fields.architecture_ = entry.hugging_face;
    TRY(const int64_t gating, fields.reader().integer_or(fields.gguf_prefix_ + "expert_gating_func", 0));
    if (gating == kSigmoidGating && !entry.with_sigmoid_gating.empty())
      fields.architecture_ = entry.with_sigmoid_gating;
    if (entry.normalises_expert_weights && !fields.has("norm_topk_prob"))
      fields.values_["norm_topk_prob"] = true;
  }
  return fields;
}

// Of training, of the library that wrote the file, or read elsewhere (tokens, rotary tables, block scales).
constexpr std::string_view kOfNoConcern[] = {"architectures",
                                             "model_type",
                                             "torch_dtype",
                                             "dtype",
                                             "transformers_version",
                                             "use_cache",
                                             "initializer_range",
                                             "attention_dropout",
                                             "bos_token_id",
                                             "eos_token_id",
                                             "pad_token_id",
                                             "pretraining_tp",
                                             "auto_map",
                                             "quantization_config",
                                             "_name_or_path",
                                             "rope_theta",
                                             "rope_scaling",
                                             "rope_parameters",
                                             "seq_aux",
                                             "aux_loss_alpha",
                                             "ep_size",
                                             "router_aux_loss_coef",
                                             "output_router_logits",
                                             "max_window_layers",
                                             "expert_dtype",
                                             "tie_word_embeddings",
                                             "partial_rotary_factor",
                                             "compress_rope_theta",
                                             "num_key_value_heads",
                                             "head_dim",
                                             "intermediate_size",
                                             "layer_types",
                                             "mlp_layer_types",
                                             "use_sliding_window",
                                             "sliding_window",
                                             "unsloth_version"};

std::vector<std::string> ModelFields::unread() const {
  std::vector<std::string> out;
  if (format_ != SourceFormat::kHuggingFace) return out;
  for (const auto& [name, value] : values_.items())
    if (!value.is_null() && asked_->count(name) == 0 &&
        std::find(std::begin(kOfNoConcern), std::end(kOfNoConcern), name) == std::end(kOfNoConcern))
      out.push_back(name);
  return out;
}

std::string ModelFields::spelling(std::string_view field) const {
  asked_->emplace(field);
  std::string name(field);
  if (format_ == SourceFormat::kHuggingFace || values_.contains(name)) return name;
  for (const FieldSpelling& entry : kFields) {
    if (entry.hugging_face != field) continue;
    return entry.gguf.front() == '.' ? std::string(entry.gguf.substr(1))
                                     : gguf_prefix_ + std::string(entry.gguf);
  }
  return gguf_prefix_ + name;
}

bool ModelFields::has(std::string_view field) const { return reader().has(spelling(field)); }

Result<int64_t> ModelFields::integer_or(std::string_view field, int64_t fallback) const {
  return reader().integer_or(spelling(field), fallback);
}
Result<double> ModelFields::number_or(std::string_view field, double fallback) const {
  return reader().number_or(spelling(field), fallback);
}
Result<bool> ModelFields::boolean_or(std::string_view field, bool fallback) const {
  return reader().boolean_or(spelling(field), fallback);
}
Result<std::string> ModelFields::string_or(std::string_view field, std::string fallback) const {
  return reader().string_or(spelling(field), std::move(fallback));
}

Result<int64_t> ModelFields::size(std::string_view field) const {
  TRY(const int64_t value, integer(field));
  if (value < 1 || value > INT32_MAX)
    return bad_input("{}: field {} is {}; expected 1 to {}", file_, show_name(spelling(field)), value,
                     INT32_MAX);
  return value;
}

Result<int64_t> ModelFields::size_or(std::string_view field, int64_t fallback) const {
  return has(field) ? size(field) : Result<int64_t>(fallback);
}

}  // namespace fettle
