#include "checkpoint/tensor_names.h"

#include <charconv>
#include <system_error>

#include "base/show_name.h"
#include "checkpoint/native_names.h"

namespace fettle {

namespace {

// Modules, without their ".weight" or ".bias". An expert's name goes to a stack and the expert's number to
// the index.
struct Spelling {
  std::string_view hugging_face, gguf;
};

constexpr Spelling kRootModules[] = {
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
};

constexpr Spelling kLayerModules[] = {
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"mlp.gate", "ffn_gate_inp"},
    {"self_attn.q_a_proj", "attn_q_a"},
    {"self_attn.q_a_layernorm", "attn_q_a_norm"},
    {"self_attn.q_b_proj", "attn_q_b"},
    {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
    {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
    {"self_attn.kv_b_proj", "attn_kv_b"},
    {"self_attn.k_b_proj", "attn_k_b"},
    {"self_attn.v_b_proj", "attn_v_b"},
    {"self_attn.q_a_norm", "attn_q_a_norm"},
    {"self_attn.kv_proj", "attn_kv"},
    {"self_attn.kv_norm", "attn_kv_a_norm"},
    {"self_attn.o_a_proj", "attn_output_a"},
    {"self_attn.o_b_proj", "attn_output_b"},
    {"self_attn.compressor.kv_proj", "attn_compressor_kv"},
    {"self_attn.compressor.gate_proj", "attn_compressor_gate"},
    {"self_attn.compressor.kv_norm", "attn_compressor_norm"},
    {"self_attn.compressor.indexer.q_b_proj", "indexer.attn_q_b"},
    {"self_attn.compressor.indexer.weights_proj", "indexer.proj"},
    {"self_attn.compressor.indexer.scorer.weights_proj", "indexer.proj"},
    {"self_attn.compressor.indexer.kv_proj", "indexer_compressor_kv"},
    {"self_attn.compressor.indexer.gate_proj", "indexer_compressor_gate"},
    {"self_attn.compressor.indexer.kv_norm", "indexer_compressor_norm"},
    {"self_attn.indexer.wq_b", "indexer.attn_q_b"},
    {"self_attn.indexer.wk", "indexer.attn_k"},
    {"self_attn.indexer.k_norm", "indexer.k_norm"},
    {"self_attn.indexer.weights_proj", "indexer.proj"},
    {"mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_experts.up_proj", "ffn_up_shexp"},
    {"mlp.shared_experts.down_proj", "ffn_down_shexp"},
    {"embed_tokens", "nextn.embed_tokens"},
    {"enorm", "nextn.enorm"},
    {"hnorm", "nextn.hnorm"},
    {"eh_proj", "nextn.eh_proj"},
    {"shared_head.norm", "nextn.shared_head_norm"},
    {"shared_head.head", "nextn.shared_head_head"},
};

// What is named otherwise than a module with a weight or a bias.
constexpr Spelling kLayerParameters[] = {
    {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
    {"mlp.gate.tid2eid", "ffn_gate_tid2eid.weight"},
    {"self_attn.sinks", "attn_sinks.weight"},
    {"self_attn.compressor.position_bias", "attn_compressor_ape.weight"},
    {"self_attn.compressor.indexer.position_bias", "indexer_compressor_ape.weight"},
    {"attn_hc.fn", "hc_attn_fn.weight"},
    {"attn_hc.base", "hc_attn_base.weight"},
    {"attn_hc.scale", "hc_attn_scale.weight"},
    {"ffn_hc.fn", "hc_ffn_fn.weight"},
    {"ffn_hc.base", "hc_ffn_base.weight"},
    {"ffn_hc.scale", "hc_ffn_scale.weight"},
};
constexpr Spelling kRootParameters[] = {
    {"model.hc_head.hc_fn", "output_hc_fn.weight"},
    {"model.hc_head.hc_base", "output_hc_base.weight"},
    {"model.hc_head.hc_scale", "output_hc_scale.weight"},
};

constexpr Spelling kExpertModules[] = {
    {"gate_proj", "ffn_gate_exps"},
    {"up_proj", "ffn_up_exps"},
    {"down_proj", "ffn_down_exps"},
};

template <size_t N>
std::optional<std::string_view> look_up(const Spelling (&table)[N], std::string_view module) {
  for (const Spelling& entry : table)
    if (entry.hugging_face == module) return entry.gguf;
  return std::nullopt;
}

bool take_prefix(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// "12." at the front: a number without sign or leading zeros, and its dot.
std::optional<int64_t> take_number(std::string_view* text) {
  int64_t number = 0;
  const char* end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, number);
  if (error != std::errc() || stop == end || *stop != '.' || number < 0) return std::nullopt;
  const size_t digits = static_cast<size_t>(stop - text->data());
  if (digits > 1 && text->front() == '0') return std::nullopt;
  text->remove_prefix(digits + 1);
  return number;
}

}  // namespace

std::optional<TensorRef> gguf_tensor_name(std::string_view hf_name) {
  if (const auto root = look_up(kRootParameters, hf_name)) return TensorRef{std::string(*root), 0};
  if (std::string_view rest = hf_name; take_prefix(&rest, "model.layers."))
    if (const auto layer = take_number(&rest))
      if (const auto found = look_up(kLayerParameters, rest))
        return TensorRef{fmt::format("blk.{}.{}", *layer, *found), 0};
  const size_t dot = hf_name.rfind('.');
  if (dot == hf_name.npos) return std::nullopt;
  std::string_view parameter = hf_name.substr(dot + 1);
  if (parameter != "weight" && parameter != "bias") return std::nullopt;
  std::string_view module = hf_name.substr(0, dot);

  if (const auto root = look_up(kRootModules, module))
    return TensorRef{fmt::format("{}.{}", *root, parameter), 0};
  if (!take_prefix(&module, "model.layers.")) return std::nullopt;
  const std::optional<int64_t> layer = take_number(&module);
  if (!layer) return std::nullopt;
  if (take_prefix(&module, "mlp.experts.")) {
    const std::optional<int64_t> expert = take_number(&module);
    const auto stack = look_up(kExpertModules, module);
    if (!expert || !stack) return std::nullopt;
    return TensorRef{fmt::format("blk.{}.{}.{}", *layer, *stack, parameter), *expert};
  }
  const auto found = look_up(kLayerModules, module);
  if (!found) return std::nullopt;
  return TensorRef{fmt::format("blk.{}.{}.{}", *layer, *found, parameter), 0};
}

Result<TensorRef> resolve_tensor(const Checkpoint& checkpoint, std::string_view hf_name) {
  if (checkpoint.find(hf_name)) return TensorRef{std::string(hf_name), 0};
  for (std::string& native : native_tensor_names(hf_name))
    if (checkpoint.find(native)) return TensorRef{std::move(native), 0};
  const std::optional<TensorRef> other = gguf_tensor_name(hf_name);
  if (!other)
    return bad_input("{}: tensor {} is missing (GGUF has no name for it)", checkpoint.path(),
                     show_name(hf_name));
  const StoredTensor* tensor = checkpoint.find(other->name);
  if (!tensor)
    return bad_input("{}: tensor {} is missing, and so is {} (its name in GGUF)", checkpoint.path(),
                     show_name(hf_name), show_name(other->name));
  const int64_t stacked = tensor->shape.size() == 3 ? tensor->shape[0] : 1;
  if (other->stack_index >= stacked)
    return bad_input("{}: tensor {} should be matrix {} of {}, whose shape {} holds {}", checkpoint.path(),
                     show_name(hf_name), other->stack_index, show_name(other->name),
                     shape_text(tensor->shape), stacked);
  return *other;
}

}  // namespace fettle
