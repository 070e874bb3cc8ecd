// The configuration as architecture files read it: fields by their Hugging Face names, answered from
// config.json or, for GGUF, from the metadata through one table. An absent field is an error in integer(),
// number()... and the fallback in the *_or forms; errors name the file and the field as it is spelled there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "checkpoint/checkpoint.h"

namespace fettle {

class ModelFields {
 public:
  static Result<ModelFields> of(const Checkpoint& checkpoint);

  // model_type, or general.architecture in the same spelling: "llama", "qwen2", "qwen3_moe"...
  const std::string& architecture() const { return architecture_; }
  SourceFormat format() const { return format_; }
  const std::string& file() const { return file_; }

  bool has(std::string_view field) const;  // present and not null
  Result<int64_t> integer(std::string_view field) const { return reader().integer(spelling(field)); }
  Result<double> number(std::string_view field) const { return reader().number(spelling(field)); }
  Result<bool> boolean(std::string_view field) const { return reader().boolean(spelling(field)); }
  Result<std::string> string(std::string_view field) const { return reader().string(spelling(field)); }
  Result<std::vector<int64_t>> integers(std::string_view field) const {
    return reader().integers(spelling(field));
  }
  Result<std::vector<std::string>> strings(std::string_view field) const {
    return reader().strings(spelling(field));
  }
  Result<JsonReader> object(std::string_view field) const { return reader().object(spelling(field)); }

  Result<int64_t> integer_or(std::string_view field, int64_t fallback) const;
  Result<double> number_or(std::string_view field, double fallback) const;
  Result<bool> boolean_or(std::string_view field, bool fallback) const;
  Result<std::string> string_or(std::string_view field, std::string fallback) const;

  // A count or a dimension: a whole number from 1 to 2^31 - 1.
  Result<int64_t> size(std::string_view field) const;
  Result<int64_t> size_or(std::string_view field, int64_t fallback) const;

  // The field as the file spells it: "hidden_size" -> "llama.embedding_length".
  std::string spelling(std::string_view field) const;

  // Fields of config.json that nobody has asked for, and that say something of the computation: those which
  // every model carries and no inference reads are left out.
  std::vector<std::string> unread() const;

 private:
  JsonReader reader() const { return JsonReader(values_, file_); }

  SourceFormat format_ = SourceFormat::kHuggingFace;
  std::string file_;
  std::string architecture_;
  std::string gguf_prefix_;  // "llama."
  Json values_;
  std::shared_ptr<std::set<std::string, std::less<>>> asked_;
};

// Rotary embedding of long contexts. The formulas are the architecture's business; these are the parameters,
// all finite, checked for the range that the formulas need.
enum class RopeKind { kNone, kLinear, kLlama3, kYarn };

struct RopeConfig {
  double theta = 10000.0;
  RopeKind kind = RopeKind::kNone;
  double factor = 1.0;
  double low_freq_factor = 0.0;
  double high_freq_factor = 0.0;
  double original_context = 0.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale = 0.0;          // 0: not given
  double mscale_all_dim = 0.0;  // 0: not given
  std::optional<double> attention_factor;
  // kLlama3 out of a GGUF: inverse frequency i is divided by divisors[i], and the other parameters of the
  // kind are not known.
  std::vector<float> divisors;

  bool operator==(const RopeConfig&) const = default;
};

Result<RopeConfig> rope_config(const Checkpoint& checkpoint, const ModelFields& fields);

// Of models that rotate some layers another way: rope_theta alone for `main`, compress_rope_theta with
// rope_scaling for `compress`; or both under these names in rope_parameters.
struct RopePair {
  RopeConfig main, compress;
};
Result<RopePair> rope_pair(const Checkpoint& checkpoint, const ModelFields& fields);

}  // namespace fettle
