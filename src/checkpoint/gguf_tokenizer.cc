#include "checkpoint/gguf_tokenizer.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>

#include "base/json.h"

namespace fettle {
namespace {

constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kByte = 6;
constexpr size_t kMaxTokens = size_t{1} << 24;

// Regular expressions as in the tokenizer.json of each family; each piece that one cuts out is what the next
// one cuts.
#define FETTLE_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
#define FETTLE_TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
constexpr const char* kQwen2 =
    FETTLE_CONTRACTIONS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" FETTLE_TAIL;
constexpr const char* kLlama3 = FETTLE_CONTRACTIONS
    "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" FETTLE_TAIL;
constexpr const char* kDeepseekV3Words =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*" FETTLE_TAIL;
#undef FETTLE_CONTRACTIONS
#undef FETTLE_TAIL
// Letters with case as of an older Unicode: the class is part of the tokenizer's definition.
constexpr const char* kDeepseekLlmLetters =
    "\\s?["
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-"
    "\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-"
    "\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf"
    "\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-"
    "\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115"
    "\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e"
    "\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-"
    "\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-"
    "\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
    "]+";

enum class Digits { kNone, kBefore, kAfter };  // digits one by one, before or after the splits

struct Grammar {
  const char* pre;
  std::vector<const char*> splits;
  Digits digits = Digits::kNone;
  bool gpt2_words = false;  // GPT-2's own expression, which the byte-level step has built in
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;
};

const std::vector<Grammar>& grammars() {
  static const std::vector<const char*> deepseek_v3 = {
      "\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", kDeepseekV3Words};
  static const std::vector<Grammar> all = {
      {.pre = "smollm", .splits = {}, .digits = Digits::kBefore, .gpt2_words = true},
      {.pre = "qwen2", .splits = {kQwen2}, .nfc = true},
      {.pre = "deepseek-r1-qwen", .splits = {kQwen2}},
      {.pre = "llama-bpe", .splits = {kLlama3}, .ignore_merges = true, .add_bos = true},
      {.pre = "deepseek-v3", .splits = deepseek_v3},
      {.pre = "joyai-llm", .splits = deepseek_v3},
      {.pre = "deepseek-llm",
       .splits = {"[\r\n]", kDeepseekLlmLetters,
                  "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", "\\s+$",
                  "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"},
       .digits = Digits::kAfter},
  };
  return all;
}

Result<const Grammar*> find_grammar(const GgufTokenizer& gguf) {
  if (gguf.model != "gpt2") {
    return unsupported("tokenizer.ggml.model is \"{}\", expected \"gpt2\" (byte-level BPE)", gguf.model);
  }
  std::string known;
  for (const Grammar& grammar : grammars()) {
    if (gguf.pre == grammar.pre) return &grammar;
    known += (known.empty() ? "" : ", ") + std::string(grammar.pre);
  }
  return unsupported("tokenizer.ggml.pre is \"{}\", expected one of {}", gguf.pre, known);
}

Json pre_tokenizer(const Grammar& grammar) {
  Json steps = Json::array();
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  if (grammar.digits == Digits::kBefore) steps.push_back(digits);
  for (const char* regex : grammar.splits) {
    steps.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  if (grammar.digits == Digits::kAfter) steps.push_back(digits);
  steps.push_back({{"type", "ByteLevel"},
                   {"add_prefix_space", false},
                   {"trim_offsets", true},
                   {"use_regex", grammar.gpt2_words}});
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

Status check_tokens(const GgufTokenizer& gguf) {
  if (gguf.tokens.empty() || gguf.tokens.size() > kMaxTokens) {
    return bad_input("tokenizer.ggml.tokens has {} entries, expected 1 to {}", gguf.tokens.size(),
                     kMaxTokens);
  }
  if (!gguf.token_type.empty() && gguf.token_type.size() != gguf.tokens.size()) {
    return bad_input("tokenizer.ggml.token_type has {} entries, expected {}, one for each token",
                     gguf.token_type.size(), gguf.tokens.size());
  }
  for (size_t id = 0; id < gguf.token_type.size(); ++id) {
    const int32_t type = gguf.token_type[id];
    if (type < kNormal || type > kByte) {
      return bad_input("tokenizer.ggml.token_type[{}] is {}, expected {} to {}", id, type, kNormal, kByte);
    }
  }
  return {};
}

Result<std::optional<std::string>> token_of(const GgufTokenizer& gguf, std::optional<int64_t> id,
                                            const char* key) {
  if (!id) return std::optional<std::string>();
  if (*id < 0 || *id >= static_cast<int64_t>(gguf.tokens.size())) {
    return bad_input("tokenizer.ggml.{} is {}, expected an id of the {} tokens", key, *id,
                     gguf.tokens.size());
  }
  return std::optional(gguf.tokens[static_cast<size_t>(*id)]);
}

Result<Json> vocabulary(const GgufTokenizer& gguf) {
  std::unordered_map<std::string_view, size_t> ids;
  ids.reserve(gguf.tokens.size());
  Json::object_t vocab;
  for (size_t id = 0; id < gguf.tokens.size(); ++id) {
    const auto [first, added] = ids.emplace(gguf.tokens[id], id);
    if (!added) {
      return bad_input("tokenizer.ggml.tokens: token {} has the text of token {}, expected each text once",
                       id, first->second);
    }
    // At the end of the list that an ordered object is: looking for the key would make this quadratic.
    vocab.Container::emplace_back(gguf.tokens[id], id);
  }
  return Json(std::move(vocab));
}

Result<Json> merge_pairs(const GgufTokenizer& gguf) {
  Json pairs = Json::array();
  for (size_t rank = 0; rank < gguf.merges.size(); ++rank) {
    const std::string& merge = gguf.merges[rank];
    const size_t space = merge.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == merge.size() || merge.rfind(' ') != space) {
      return bad_input("tokenizer.ggml.merges[{}] is \"{}\", expected two tokens with one space between",
                       rank, merge);
    }
    pairs.push_back(Json::array({merge.substr(0, space), merge.substr(space + 1)}));
  }
  return pairs;
}

Json added_tokens(const GgufTokenizer& gguf) {
  Json added = Json::array();
  for (size_t id = 0; id < gguf.token_type.size(); ++id) {
    const int32_t type = gguf.token_type[id];
    if (type != kControl && type != kUserDefined) continue;
    added.push_back({{"id", id},
                     {"content", gguf.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", type == kControl}});
  }
  return added;
}

// Puts BOS in front of one text, and of the first of a pair.
Json bos_processor(const std::string& bos, int64_t id) {
  const auto special = [&] { return Json{{"SpecialToken", {{"id", bos}, {"type_id", 0}}}}; };
  const auto sequence = [](const char* name, int type) {
    return Json{{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  Json tokens = Json::object();
  tokens[bos] = {{"id", bos}, {"ids", Json::array({id})}, {"tokens", Json::array({bos})}};
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({special(), sequence("A", 0)})},
          {"pair", Json::array({special(), sequence("A", 0), sequence("B", 1)})},
          {"special_tokens", std::move(tokens)}};
}

}  // namespace

Result<std::string> tokenizer_json_from_gguf(const GgufTokenizer& gguf) {
  TRY(const Grammar* grammar, find_grammar(gguf));
  TRY_STATUS(check_tokens(gguf));
  TRY(Json vocab, vocabulary(gguf));
  TRY(Json merges, merge_pairs(gguf));
  TRY(const auto bos, token_of(gguf, gguf.bos, "bos_token_id"));

  Json json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = added_tokens(gguf);
  json["normalizer"] = grammar->nfc ? Json{{"type", "NFC"}} : Json();
  json["pre_tokenizer"] = pre_tokenizer(*grammar);
  json["post_processor"] =
      bos && gguf.add_bos.value_or(grammar->add_bos) ? bos_processor(*bos, *gguf.bos) : Json();
  json["decoder"] = {
      {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  json["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", grammar->ignore_merges}};
  json["model"]["vocab"] = std::move(vocab);
  json["model"]["merges"] = std::move(merges);
  return dump_json(json, -1);
}

Result<std::string> tokenizer_config_from_gguf(const GgufTokenizer& gguf) {
  TRY(const Grammar* grammar, find_grammar(gguf));
  const std::pair<const char*, std::optional<int64_t>> ids[] = {
      {"bos_token", gguf.bos}, {"eos_token", gguf.eos}, {"pad_token", gguf.pad}, {"unk_token", gguf.unknown}};
  const char* const keys[] = {"bos_token_id", "eos_token_id", "padding_token_id", "unknown_token_id"};

  Json json = {{"add_bos_token", gguf.add_bos.value_or(grammar->add_bos)},
               {"add_eos_token", gguf.add_eos.value_or(false)}};
  for (size_t i = 0; i < std::size(ids); ++i) {
    TRY(const auto text, token_of(gguf, ids[i].second, keys[i]));
    json[ids[i].first] = text ? Json(*text) : Json();
  }
  json["clean_up_tokenization_spaces"] = false;
  json["tokenizer_class"] = "PreTrainedTokenizerFast";
  if (!gguf.chat_template.empty()) json["chat_template"] = gguf.chat_template;
  return dump_json(json);
}

}  // namespace fettle
