// The reading half of the certificate's JSON (certificate_json.cc writes it and says what null means).
#include <cmath>

#include "quality/certificate.h"

namespace fettle {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A number, or null in its place; an absent field is an error.
Status read_number(const JsonReader& in, const std::string& field, double if_null, double high, double* out) {
  const bool is_null = in.json().is_object() && in.json().contains(field) && !in.has(field);
  if (is_null) {
    *out = if_null;
    return {};
  }
  TRY(*out, in.number(field));
  if (*out >= 0 && *out <= high) return {};
  return bad_input("{}: field '{}' is {}; expected a number from 0 {}", in.what(), field, *out,
                   std::isinf(high) ? "up" : fmt::format("to {}", high));
}

// A KLD or a perplexity: null is the infinity that JSON cannot write.
Status read_harm(const JsonReader& in, const std::string& field, double* out) {
  return read_number(in, field, kInfinity, kInfinity, out);
}

Status read_count(const JsonReader& in, std::string_view field, int64_t* out) {
  TRY(*out, in.integer(field));
  if (*out >= 0) return {};
  return bad_input("{}: field '{}' is {}; expected a count from 0 up", in.what(), field, *out);
}

Status read_interval(const JsonReader& in, const std::string& field, double if_null, double high,
                     Interval* out) {
  TRY_STATUS(read_number(in, field, if_null, high, &out->value));
  TRY(out->low, in.number_or(field + "_low", kNotMeasured));
  TRY(out->high, in.number_or(field + "_high", std::isnan(out->low) ? kNotMeasured : if_null));
  if (!(out->low > out->high)) return {};
  return bad_input("{}: field '{}_low' is {}, above '{}_high' = {}; expected low <= high", in.what(), field,
                   out->low, field, out->high);
}

// Calls read(reader of element, &new element of *out) for every element of a list of objects.
template <typename T, typename Read>
Status read_list(const JsonReader& in, const std::string& field, std::vector<T>* out, Read read) {
  if (!in.has(field)) return bad_input("{}: field '{}' is missing; expected a list", in.what(), field);
  const Json& list = in.json().at(field);
  if (!list.is_array()) {
    return bad_input("{}: field '{}' is {}; expected a list", in.what(), field, list.type_name());
  }
  out->reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonReader element(list[i], fmt::format("{}: {}[{}]", in.what(), field, i));
    TRY_STATUS(read(element, &out->emplace_back()));
  }
  return {};
}

Status read_drift(const JsonReader& in, DriftSummary* d) {
  TRY(const JsonReader kld, in.object("kld"));
  TRY_STATUS(read_interval(kld, "mean", kInfinity, kInfinity, &d->kld_mean));
  TRY_STATUS(read_harm(kld, "median", &d->kld_median));
  TRY_STATUS(read_harm(kld, "p99", &d->kld_p99));
  TRY_STATUS(read_harm(kld, "max", &d->kld_max));
  TRY_STATUS(read_interval(in, "top1_agreement", kNotMeasured, 1, &d->top1_agreement));
  TRY(const JsonReader perplexity, in.object("perplexity"));
  TRY_STATUS(read_harm(perplexity, "source", &d->perplexity_source));
  TRY_STATUS(read_harm(perplexity, "adapted", &d->perplexity_adapted));
  TRY_STATUS(read_count(in, "positions", &d->positions));
  return read_count(in, "windows", &d->windows);
}

Status read_by_position(const JsonReader& in, DriftPart* part) {
  TRY_STATUS(read_count(in, "bucket", &part->position_bucket));
  if (!in.has("mean") || !in.json().at("mean").is_array()) {
    return bad_input("{}: field 'mean' is missing or no list; expected a list of numbers", in.what());
  }
  for (const Json& value : in.json().at("mean")) {
    const bool is_kld = value.is_number() && value.get<double>() >= 0;
    if (!value.is_null() && !is_kld) {
      return bad_input("{}: field 'mean' holds {}; expected numbers from 0 up, or null", in.what(),
                       dump_json(value, -1).substr(0, 60));
    }
    part->kld_by_position.push_back(value.is_null() ? kInfinity : value.get<double>());
  }
  return {};
}

Status read_part(const JsonReader& in, DriftPart* part) {
  TRY_STATUS(read_drift(in, &part->drift));
  if (in.has("kld_quantiles")) {
    TRY_STATUS(read_list(in, "kld_quantiles", &part->kld_quantiles,
                         [](const JsonReader& q, KldQuantile* out) -> Status {
                           TRY_STATUS(read_number(q, "q", kNotMeasured, 1, &out->q));
                           return read_harm(q, "kld", &out->kld);
                         }));
  }
  if (!in.has("kld_by_position")) return {};
  TRY(const JsonReader by_position, in.object("kld_by_position"));
  return read_by_position(by_position, part);
}

// The headline is the held-out text's block written a second time; a file where they differ was edited by
// hand or damaged.
Status read_parts(const JsonReader& in, Certificate* c) {
  TRY_STATUS(read_drift(in, &c->evaluation.drift));
  if (!in.has("parts")) return {};
  TRY(const JsonReader parts, in.object("parts"));
  if (parts.has("evaluation")) {
    DriftPart part;
    TRY(const JsonReader evaluation, parts.object("evaluation"));
    TRY_STATUS(read_part(evaluation, &part));
    const auto differs = [](double a, double b) { return !(std::isnan(a) && std::isnan(b)) && a != b; };
    const auto refuse = [&](std::string_view field, double top, double inner) {
      return bad_input(
          "{}: field '{}' is {}, but parts.evaluation has {}; the file was changed, run `fettle verify`",
          in.what(), field, top, inner);
    };
    const DriftSummary &top = c->evaluation.drift, &inner = part.drift;
    if (differs(top.kld_mean.value, inner.kld_mean.value)) {
      return refuse("kld.mean", top.kld_mean.value, inner.kld_mean.value);
    }
    if (differs(top.kld_p99, inner.kld_p99)) return refuse("kld.p99", top.kld_p99, inner.kld_p99);
    if (differs(top.kld_max, inner.kld_max)) return refuse("kld.max", top.kld_max, inner.kld_max);
    if (differs(top.top1_agreement.value, inner.top1_agreement.value)) {
      return refuse("top1_agreement", top.top1_agreement.value, inner.top1_agreement.value);
    }
    c->evaluation = std::move(part);
  }
  if (!parts.has("generated")) return {};
  TRY(const JsonReader generated, parts.object("generated"));
  return read_part(generated, &c->generated.emplace());
}

Status read_verdicts(const JsonReader& in, Certificate* c) {
  TRY(c->passed, in.boolean("passed"));
  TRY_STATUS(read_list(in, "verdicts", &c->verdicts, [](const JsonReader& v, Verdict* out) -> Status {
    TRY(out->what, v.string("what"));
    TRY(out->measured, v.number_or("measured", kNotMeasured));
    TRY(out->limit, v.number_or("limit", kNotMeasured));
    TRY(out->passed, v.boolean("passed"));
    TRY(out->why, v.string_or("why", ""));
    return {};
  }));
  for (const Verdict& v : c->verdicts) {
    if (!c->passed || v.passed) continue;
    return bad_input(
        "{}: field 'passed' is true, but the verdict '{}' failed; the file was changed, run `fettle verify`",
        in.what(), v.what);
  }
  return {};
}

Status read_budget(const JsonReader& in, Budget* budget) {
  if (!in.has("budget")) return {};
  TRY(const JsonReader limits, in.object("budget"));
  const auto read = [&](const char* field, double high, std::optional<double>* out) -> Status {
    return limits.has(field) ? read_number(limits, field, kNotMeasured, high, &out->emplace()) : Status();
  };
  TRY_STATUS(read("kld_mean", kInfinity, &budget->kld_mean));
  TRY_STATUS(read("kld_p99", kInfinity, &budget->kld_p99));
  TRY_STATUS(read("top1_min", 1, &budget->top1_min));
  return read("ppl_ratio_max", kInfinity, &budget->ppl_ratio_max);
}

Status read_identity(const JsonReader& in, Certificate* c) {
  TRY(const JsonReader model, in.object("model"));
  TRY(c->model, model.string("name"));
  TRY(c->source, model.string_or("source", ""));
  TRY(c->architecture, model.string("architecture"));
  TRY_STATUS(read_count(model, "parameters", &c->parameters));
  TRY(c->source_digest, model.string_or("digest", ""));
  TRY(c->target, in.string("target"));
  TRY(c->created, in.string("created"));
  TRY(c->made_by, in.string_or("made_by", ""));
  TRY(c->content_digest, in.string("content_digest"));
  TRY(c->parent_digest, in.string_or("parent_digest", ""));
  TRY(const JsonReader evaluation, in.object("evaluation"));
  TRY(c->evaluation_sha256, evaluation.string("sha256"));
  return {};
}

Status read_behaviour(const JsonReader& in, Certificate* c) {
  if (in.has("greedy_prefix")) {
    TRY(const JsonReader prefix, in.object("greedy_prefix"));
    auto& out = c->greedy_prefix.emplace();
    TRY_STATUS(read_number(prefix, "mean", kNotMeasured, kInfinity, &out.mean));
    TRY_STATUS(read_count(prefix, "of", &out.of));
  }
  if (in.has("router_overlap")) {
    TRY_STATUS(read_number(in, "router_overlap", kNotMeasured, 1, &c->router_overlap.emplace()));
  }
  TRY_STATUS(read_list(in, "tasks", &c->tasks, [](const JsonReader& t, TaskScore* out) -> Status {
    TRY(out->name, t.string("name"));
    TRY_STATUS(read_count(t, "count", &out->count));
    TRY_STATUS(read_interval(t, "source", kNotMeasured, 1, &out->source));
    return read_interval(t, "adapted", kNotMeasured, 1, &out->adapted);
  }));
  if (!in.has("checks")) return {};
  TRY(const JsonReader checks, in.object("checks"));
  for (const NamedCheck& named : certificate_checks()) {
    if (!checks.has(named.field)) continue;
    TRY(const JsonReader check, checks.object(named.field));
    Check& out = (c->*named.check).emplace();
    TRY(out.passed, check.boolean("passed"));
    TRY(out.detail, check.string_or("detail", ""));
  }
  return {};
}

Status read_speed_and_memory(const JsonReader& in, Certificate* c) {
  if (in.has("speed")) {
    TRY(const JsonReader speed, in.object("speed"));
    Speed& out = c->speed.emplace();
    TRY_STATUS(read_interval(speed, "prefill_tok_s", kNotMeasured, kInfinity, &out.prefill_tok_s));
    TRY_STATUS(read_interval(speed, "decode_tok_s", kNotMeasured, kInfinity, &out.decode_tok_s));
    TRY_STATUS(read_count(speed, "threads", &out.threads));
    TRY(out.measured, speed.boolean("measured"));
    TRY(out.device, speed.string_or("device", ""));
  }
  TRY(const JsonReader memory, in.object("memory"));
  TRY_STATUS(read_count(memory, "weights_bytes", &c->memory.weights_bytes));
  TRY_STATUS(read_count(memory, "kv_bytes_per_token", &c->memory.kv_bytes_per_token));
  return memory.has("peak_bytes") ? read_count(memory, "peak_bytes", &c->memory.peak_bytes.emplace())
                                  : Status();
}

Status read_weights(const JsonReader& in, Certificate* c) {
  TRY_STATUS(read_count(in, "carried", &c->carried));
  TRY_STATUS(read_count(in, "requantised", &c->requantised));
  TRY_STATUS(read_list(in, "schemes", &c->schemes, [](const JsonReader& s, SchemeShare* out) -> Status {
    TRY(out->scheme, s.string("scheme"));
    TRY_STATUS(read_count(s, "tensors", &out->tensors));
    TRY_STATUS(read_count(s, "parameters", &out->parameters));
    return read_count(s, "bytes", &out->bytes);
  }));
  if (!in.has("profile")) return {};
  TRY(const JsonReader profile, in.object("profile"));
  if (profile.has("kld_by_layer")) {
    TRY_STATUS(read_list(profile, "kld_by_layer", &c->kld_by_layer,
                         [](const JsonReader& l, LayerError* out) -> Status {
                           TRY_STATUS(read_count(l, "layer", &out->layer));
                           return read_harm(l, "relative_error", &out->relative_error);
                         }));
  }
  if (!profile.has("speed_by_scheme")) return {};
  return read_list(
      profile, "speed_by_scheme", &c->speed_by_scheme, [](const JsonReader& s, SchemeSpeed* out) -> Status {
        TRY(out->scheme, s.string("scheme"));
        out->tokens = s.has("tok_s");
        return read_number(s, out->tokens ? "tok_s" : "gb_s", kNotMeasured, kInfinity, &out->value);
      });
}

}  // namespace

Result<Certificate> certificate_from_json(const Json& json, const std::string& what) {
  const JsonReader in(json, what);
  TRY(const int64_t version, in.integer("schema_version"));
  if (version != kCertificateSchema) {
    return unsupported(
        "{}: field 'schema_version' is {}; this fettle reads {}: use the fettle that wrote it, or run "
        "`fettle verify` again",
        what, version, kCertificateSchema);
  }
  Certificate c;
  TRY_STATUS(read_verdicts(in, &c));
  TRY_STATUS(read_budget(in, &c.budget));
  TRY_STATUS(read_identity(in, &c));
  TRY_STATUS(read_parts(in, &c));
  TRY_STATUS(read_behaviour(in, &c));
  TRY_STATUS(read_speed_and_memory(in, &c));
  TRY_STATUS(read_weights(in, &c));
  return c;
}

}  // namespace fettle
