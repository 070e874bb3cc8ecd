#include "checkpoint/native_names.h"

#include <cctype>

namespace fettle {

namespace {

struct Spelling {
  std::string_view hugging_face, native;
};

constexpr Spelling kRoot[] = {
    {"model.embed_tokens.weight", "embed.weight"},
    {"model.norm.weight", "norm.weight"},
    {"lm_head.weight", "head.weight"},
    {"model.hc_head.hc_fn", "hc_head_fn"},
    {"model.hc_head.hc_base", "hc_head_base"},
    {"model.hc_head.hc_scale", "hc_head_scale"},
};

// Below "model.layers.N." and "layers.N.". A name ends where its table entry does, or goes on after it.
constexpr Spelling kLayer[] = {
    {"self_attn.compressor.indexer.scorer.weights_proj.", "attn.indexer.weights_proj."},
    {"self_attn.compressor.indexer.weights_proj.", "attn.indexer.weights_proj."},
    {"self_attn.compressor.indexer.q_b_proj.", "attn.indexer.wq_b."},
    {"self_attn.compressor.indexer.kv_proj.", "attn.indexer.compressor.wkv."},
    {"self_attn.compressor.indexer.gate_proj.", "attn.indexer.compressor.wgate."},
    {"self_attn.compressor.indexer.kv_norm.", "attn.indexer.compressor.norm."},
    {"self_attn.compressor.indexer.position_bias", "attn.indexer.compressor.ape"},
    {"self_attn.compressor.kv_proj.", "attn.compressor.wkv."},
    {"self_attn.compressor.gate_proj.", "attn.compressor.wgate."},
    {"self_attn.compressor.kv_norm.", "attn.compressor.norm."},
    {"self_attn.compressor.position_bias", "attn.compressor.ape"},
    {"self_attn.sinks", "attn.attn_sink"},
    {"self_attn.q_a_proj.", "attn.wq_a."},
    {"self_attn.q_a_norm.", "attn.q_norm."},
    {"self_attn.q_b_proj.", "attn.wq_b."},
    {"self_attn.kv_proj.", "attn.wkv."},
    {"self_attn.kv_norm.", "attn.kv_norm."},
    {"self_attn.kv_norm.", "attn.norm."},  // as the library saves it
    {"self_attn.o_a_proj.", "attn.wo_a."},
    {"self_attn.o_b_proj.", "attn.wo_b."},
    {"input_layernorm.", "attn_norm."},
    {"post_attention_layernorm.", "ffn_norm."},
    {"attn_hc.", "hc_attn_"},
    {"ffn_hc.", "hc_ffn_"},
    {"mlp.gate.e_score_correction_bias", "ffn.gate.bias"},
    {"mlp.gate.", "ffn.gate."},
    {"mlp.shared_experts.gate_proj.", "ffn.shared_experts.w1."},
    {"mlp.shared_experts.up_proj.", "ffn.shared_experts.w3."},
    {"mlp.shared_experts.down_proj.", "ffn.shared_experts.w2."},
};
// Below an expert's number.
constexpr Spelling kExpert[] = {{"gate_proj.", "w1."}, {"up_proj.", "w3."}, {"down_proj.", "w2."}};
constexpr std::string_view kExperts = "mlp.experts.", kNativeExperts = "ffn.experts.";

bool take(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// "12." at the front.
std::string take_number(std::string_view* text) {
  size_t digits = 0;
  while (digits < text->size() && std::isdigit(static_cast<unsigned char>((*text)[digits]))) ++digits;
  if (digits == 0 || digits == text->size() || (*text)[digits] != '.') return "";
  std::string number(text->substr(0, digits + 1));
  text->remove_prefix(digits + 1);
  return number;
}

template <size_t N>
std::vector<std::string> spellings(const Spelling (&table)[N], std::string_view name) {
  std::vector<std::string> out;
  for (const Spelling& entry : table)
    if (std::string_view rest = name; take(&rest, entry.hugging_face))
      out.push_back(std::string(entry.native) + std::string(rest));
  return out;
}

std::vector<std::string> below_layer(std::string_view name) {
  if (!take(&name, kExperts)) return spellings(kLayer, name);
  const std::string number = take_number(&name);
  if (number.empty()) return {};
  std::vector<std::string> out = spellings(kExpert, name);
  for (std::string& one : out) one = std::string(kNativeExperts) + number + one;
  return out;
}

// A layer that drafts has a head and parts of its own besides.
std::vector<std::string> below_draft(const std::string& prefix, std::string_view name) {
  std::vector<std::string> out = below_layer(name);
  if (std::string_view head = name; take(&head, "hc_head.hc_")) out = {"hc_head_" + std::string(head)};
  if (out.empty()) out = {std::string(name)};
  for (std::string& one : out) one = prefix + one;
  return out;
}

}  // namespace

std::vector<std::string> native_tensor_names(std::string_view hf_name) {
  for (const Spelling& entry : kRoot)
    if (entry.hugging_face == hf_name) return {std::string(entry.native)};
  std::vector<std::string> out;
  std::string_view name = hf_name;
  const bool draft = take(&name, "model.mtp.");
  if (!draft && !take(&name, "model.layers.")) return {};
  const std::string number = take_number(&name);
  if (number.empty()) return {};
  if (draft) return below_draft("mtp." + number, name);
  for (const std::string& native : below_layer(name))
    for (const char* prefix : {"layers.", "model.layers."}) out.push_back(prefix + number + native);
  return out;
}

}  // namespace fettle
