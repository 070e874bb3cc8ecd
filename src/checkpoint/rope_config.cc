#include <algorithm>
#include <cmath>

#include "base/show_name.h"
#include "checkpoint/config.h"

namespace fettle {

namespace {

// A number above zero, finite; the *_or form takes the fallback where the field is absent.
Result<double> positive(const JsonReader& reader, std::string_view field) {
  TRY(const double value, reader.number(field));
  if (!std::isfinite(value) || value <= 0)
    return bad_input("{}: field '{}' is {}; expected a number above zero", reader.what(), field, value);
  return value;
}
Result<double> positive_or(const JsonReader& reader, std::string_view field, double fallback) {
  return reader.has(field) ? positive(reader, field) : Result<double>(fallback);
}

Result<RopeKind> kind_of(const std::string& name, const JsonReader& reader, std::string_view field) {
  if (name.empty() || name == "default" || name == "none") return RopeKind::kNone;
  if (name == "linear") return RopeKind::kLinear;
  if (name == "llama3") return RopeKind::kLlama3;
  if (name == "yarn") return RopeKind::kYarn;
  return unsupported("{}: field '{}' is {}; expected default, linear, llama3 or yarn", reader.what(), field,
                     show_name(name));
}

// The parameters of one scaling object, in the spelling of rope_scaling and rope_parameters alike.
Status read_scaling(const JsonReader& scaling, double usual_context, RopeConfig* rope) {
  const std::string_view type_field = scaling.has("rope_type") ? "rope_type" : "type";
  TRY(const std::string type, scaling.string_or(type_field, ""));
  TRY(rope->kind, kind_of(type, scaling, type_field));
  if (rope->kind == RopeKind::kNone) return {};
  TRY(rope->factor, positive(scaling, "factor"));
  TRY(rope->original_context, positive_or(scaling, "original_max_position_embeddings", usual_context));
  if (scaling.has("attention_factor")) {
    TRY(rope->attention_factor, positive(scaling, "attention_factor"));
  }
  if (rope->kind == RopeKind::kLlama3) {
    TRY(rope->low_freq_factor, positive(scaling, "low_freq_factor"));
    TRY(rope->high_freq_factor, positive(scaling, "high_freq_factor"));
    if (rope->high_freq_factor <= rope->low_freq_factor)
      return bad_input("{}: field 'high_freq_factor' is {}; expected more than low_freq_factor, {}",
                       scaling.what(), rope->high_freq_factor, rope->low_freq_factor);
  }
  if (rope->kind == RopeKind::kYarn) {
    TRY(rope->beta_fast, positive_or(scaling, "beta_fast", rope->beta_fast));
    TRY(rope->beta_slow, positive_or(scaling, "beta_slow", rope->beta_slow));
    TRY(rope->mscale, scaling.number_or("mscale", 0.0));
    TRY(rope->mscale_all_dim, scaling.number_or("mscale_all_dim", 0.0));
  }
  if (rope->kind != RopeKind::kLinear && rope->original_context <= 0)
    return bad_input("{}: field 'original_max_position_embeddings' is missing; expected a number above zero",
                     scaling.what());
  return {};
}

// rope_parameters {rope_type, rope_theta, ...}, or rope_theta beside rope_scaling {type or rope_type, ...};
// both, if they say the same.
Result<RopeConfig> from_hugging_face(const Json& config, const std::string& file) {
  const JsonReader reader(config, file);
  RopeConfig plain;
  TRY(plain.theta, positive_or(reader, "rope_theta", plain.theta));
  TRY(double usual_context, positive_or(reader, "max_position_embeddings", 0.0));
  TRY(usual_context, positive_or(reader, "original_max_position_embeddings", usual_context));
  std::optional<RopeConfig> found;
  for (const std::string_view field : {"rope_parameters", "rope_scaling"}) {
    if (!reader.has(field)) continue;
    TRY(const JsonReader scaling, reader.object(field));
    for (const auto& [name, value] : scaling.json().items())
      if (value.is_object())
        return unsupported("{}: field {} differs between kinds of layers; expected one set of parameters",
                           scaling.what(), show_name(name));
    RopeConfig rope = found ? *found : plain;
    rope.kind = RopeKind::kNone;
    TRY(rope.theta, positive_or(scaling, "rope_theta", rope.theta));
    TRY_STATUS(read_scaling(scaling, usual_context, &rope));
    if (found && rope != *found)
      return bad_input("{}: fields 'rope_parameters' and 'rope_scaling' say different things; remove one",
                       file);
    found = rope;
  }
  return found.value_or(plain);
}

// The yarn parameters as GGUF spells them. Its attn_factor multiplies the usual magnitude 1 + 0.1 ln(factor),
// where Hugging Face's attention_factor replaces it; its log multiplier is 0.1 mscale_all_dim, written where
// mscale is the same.
Status read_gguf_yarn(const JsonReader& reader, const std::string& prefix, RopeConfig* rope) {
  TRY(rope->original_context, positive(reader, prefix + "original_context_length"));
  TRY(rope->beta_fast, positive_or(reader, prefix + "yarn_beta_fast", rope->beta_fast));
  TRY(rope->beta_slow, positive_or(reader, prefix + "yarn_beta_slow", rope->beta_slow));
  TRY(const double log_multiplier, reader.number_or(prefix + "yarn_log_multiplier", 0.0));
  rope->mscale = rope->mscale_all_dim = log_multiplier / 0.1;
  TRY(const double attention, positive_or(reader, prefix + "attn_factor", 1.0));
  if (attention != 1.0)
    rope->attention_factor = attention * (1.0 + 0.1 * std::log(std::max(rope->factor, 1.0)));
  return {};
}

Status read_divisors(const Checkpoint& checkpoint, RopeConfig* rope) {
  constexpr std::string_view kName = "rope_freqs.weight";
  const StoredTensor* tensor = checkpoint.find(kName);
  if (!tensor) return {};
  if (tensor->shape.size() != 1)
    return bad_input("{}: tensor '{}' has shape {}; expected one dimension", checkpoint.path(), kName,
                     shape_text(tensor->shape));
  TRY(const MatrixView view, checkpoint.matrix(kName));
  rope->divisors = view.decode();
  for (const float divisor : rope->divisors)
    if (!std::isfinite(divisor) || divisor <= 0)
      return bad_input("{}: tensor '{}' holds {}; expected numbers above zero", checkpoint.path(), kName,
                       divisor);
  if (rope->kind != RopeKind::kNone)
    return unsupported("{}: tensor '{}' beside another frequency scaling; expected one of the two",
                       checkpoint.path(), kName);
  rope->kind = RopeKind::kLlama3;
  return {};
}

Result<RopeConfig> from_gguf(const Checkpoint& checkpoint, const ModelFields& fields) {
  const JsonReader reader(checkpoint.config(), fields.file());
  const std::string prefix = fields.spelling("rope.scaling.");
  RopeConfig rope;
  TRY(rope.theta, positive_or(reader, fields.spelling("rope_theta"), rope.theta));
  const std::string type_field = prefix + "type";
  TRY(const std::string type, reader.string_or(type_field, ""));
  TRY(rope.kind, kind_of(type, reader, type_field));
  if (rope.kind == RopeKind::kLlama3)
    return unsupported("{}: field '{}' is llama3; expected the tensor 'rope_freqs.weight' to say it",
                       reader.what(), type_field);
  if (rope.kind == RopeKind::kLinear || rope.kind == RopeKind::kYarn) {
    TRY(rope.factor, positive(reader, prefix + "factor"));
  }
  if (rope.kind == RopeKind::kYarn) TRY_STATUS(read_gguf_yarn(reader, prefix, &rope));
  TRY_STATUS(read_divisors(checkpoint, &rope));
  return rope;
}

}  // namespace

Result<RopePair> rope_pair(const Checkpoint& checkpoint, const ModelFields& fields) {
  RopePair pair;
  if (fields.has("rope_parameters")) {
    TRY(const JsonReader both, fields.object("rope_parameters"));
    for (const auto& [name, rope] : {std::pair("main", &pair.main), std::pair("compress", &pair.compress)}) {
      TRY(const JsonReader one, both.object(name));
      TRY(rope->theta, positive(one, "rope_theta"));
      TRY_STATUS(read_scaling(one, 0.0, rope));
    }
    return pair;
  }
  TRY(pair.main.theta, fields.number_or("rope_theta", pair.main.theta));
  TRY(pair.compress.theta, fields.number("compress_rope_theta"));
  for (const double theta : {pair.main.theta, pair.compress.theta})
    if (!std::isfinite(theta) || theta <= 0)
      return bad_input("{}: rope_theta {} and compress_rope_theta {}; expected numbers above zero",
                       fields.file(), pair.main.theta, pair.compress.theta);
  if (fields.format() == SourceFormat::kGguf) {
    const double theta = pair.compress.theta;
    TRY(pair.compress, from_gguf(checkpoint, fields));
    pair.compress.theta = theta;
    return pair;
  }
  if (!fields.has("rope_scaling")) return pair;
  TRY(const JsonReader scaling, fields.object("rope_scaling"));
  TRY_STATUS(read_scaling(scaling, 0.0, &pair.compress));
  return pair;
}

Result<RopeConfig> rope_config(const Checkpoint& checkpoint, const ModelFields& fields) {
  if (checkpoint.format() == SourceFormat::kGguf) return from_gguf(checkpoint, fields);
  return from_hugging_face(checkpoint.config(), fields.file());
}

}  // namespace fettle
