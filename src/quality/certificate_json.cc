// The certificate as JSON. The block of the held-out text stands at the top, where the fixed contract of
// `fettle verify --json` has it, and again whole under parts.evaluation. JSON has no NaN and no infinity:
// both are written as null. Read back, a null KLD or perplexity is infinite, so that it can never pass a
// budget; any other null is "not measured".
#include "quality/certificate.h"

namespace fettle {

namespace {

void put_interval(Json* out, const std::string& name, const Interval& i) {
  (*out)[name] = i.value;
  (*out)[name + "_low"] = i.low;
  (*out)[name + "_high"] = i.high;
}

void put_drift(Json* out, const DriftSummary& d) {
  Json kld;
  put_interval(&kld, "mean", d.kld_mean);
  kld["median"] = d.kld_median;
  kld["p99"] = d.kld_p99;
  kld["max"] = d.kld_max;
  (*out)["kld"] = kld;
  put_interval(out, "top1_agreement", d.top1_agreement);
  (*out)["perplexity"] = {{"source", d.perplexity_source}, {"adapted", d.perplexity_adapted}};
  (*out)["positions"] = d.positions;
  (*out)["windows"] = d.windows;
}

Json part_json(const DriftPart& part) {
  Json out;
  put_drift(&out, part.drift);
  Json quantiles = Json::array();
  for (const KldQuantile& q : part.kld_quantiles) quantiles.push_back({{"q", q.q}, {"kld", q.kld}});
  out["kld_quantiles"] = quantiles;
  out["kld_by_position"] = {{"bucket", part.position_bucket}, {"mean", part.kld_by_position}};
  return out;
}

Json verdicts_json(const std::vector<Verdict>& verdicts) {
  Json out = Json::array();
  for (const Verdict& v : verdicts) {
    out.push_back({{"what", v.what},
                   {"measured", v.measured},
                   {"limit", v.limit},
                   {"passed", v.passed},
                   {"why", v.why}});
  }
  return out;
}

Json tasks_json(const std::vector<TaskScore>& tasks) {
  Json out = Json::array();
  for (const TaskScore& t : tasks) {
    Json task = {{"name", t.name}, {"count", t.count}};
    put_interval(&task, "source", t.source);
    put_interval(&task, "adapted", t.adapted);
    out.push_back(task);
  }
  return out;
}

Json speed_json(const std::optional<Speed>& speed) {
  if (!speed) return nullptr;
  Json out;
  put_interval(&out, "prefill_tok_s", speed->prefill_tok_s);
  put_interval(&out, "decode_tok_s", speed->decode_tok_s);
  out["threads"] = speed->threads;
  out["measured"] = speed->measured;
  if (!speed->device.empty()) out["device"] = speed->device;
  return out;
}

Json memory_json(const MemoryUse& memory) {
  Json out = {{"weights_bytes", memory.weights_bytes}, {"kv_bytes_per_token", memory.kv_bytes_per_token}};
  out["peak_bytes"] = memory.peak_bytes ? Json(*memory.peak_bytes) : Json(nullptr);
  return out;
}

Json schemes_json(const std::vector<SchemeShare>& schemes) {
  Json out = Json::array();
  for (const SchemeShare& s : schemes) {
    out.push_back(
        {{"scheme", s.scheme}, {"tensors", s.tensors}, {"parameters", s.parameters}, {"bytes", s.bytes}});
  }
  return out;
}

Json profile_json(const Certificate& c) {
  Json layers = Json::array(), sizes = Json::array(), speeds = Json::array();
  for (const SchemeShare& s : c.schemes) sizes.push_back({{"scheme", s.scheme}, {"bytes", s.bytes}});
  for (const LayerError& l : c.kld_by_layer) {
    layers.push_back({{"layer", l.layer}, {"relative_error", l.relative_error}});
  }
  for (const SchemeSpeed& s : c.speed_by_scheme) {
    speeds.push_back({{"scheme", s.scheme}, {s.tokens ? "tok_s" : "gb_s", s.value}});
  }
  return {{"kld_by_layer", layers}, {"size_by_scheme", sizes}, {"speed_by_scheme", speeds}};
}

Json budget_json(const Budget& budget) {
  Json out = Json::object();
  if (budget.kld_mean) out["kld_mean"] = *budget.kld_mean;
  if (budget.kld_p99) out["kld_p99"] = *budget.kld_p99;
  if (budget.top1_min) out["top1_min"] = *budget.top1_min;
  if (budget.ppl_ratio_max) out["ppl_ratio_max"] = *budget.ppl_ratio_max;
  return out;
}

Json model_json(const Certificate& c) {
  return {{"name", c.model},
          {"source", c.source},
          {"architecture", c.architecture},
          {"parameters", c.parameters},
          {"digest", c.source_digest}};
}

void put_behaviour(Json* out, const Certificate& c) {
  if (c.greedy_prefix)
    (*out)["greedy_prefix"] = {{"mean", c.greedy_prefix->mean}, {"of", c.greedy_prefix->of}};
  if (c.router_overlap) (*out)["router_overlap"] = *c.router_overlap;
  (*out)["tasks"] = tasks_json(c.tasks);
  Json checks = Json::object();
  for (const NamedCheck& named : certificate_checks()) {
    const std::optional<Check>& check = c.*named.check;
    if (check) checks[std::string(named.field)] = {{"passed", check->passed}, {"detail", check->detail}};
  }
  (*out)["checks"] = checks;
}

}  // namespace

Json certificate_to_json(const Certificate& c) {
  Json out;
  out["schema_version"] = kCertificateSchema;
  out["passed"] = c.passed;
  out["verdicts"] = verdicts_json(c.verdicts);
  out["budget"] = budget_json(c.budget);
  out["model"] = model_json(c);
  out["target"] = c.target;
  out["created"] = c.created;
  out["made_by"] = c.made_by;
  put_drift(&out, c.evaluation.drift);
  out["parts"]["evaluation"] = part_json(c.evaluation);
  if (c.generated) out["parts"]["generated"] = part_json(*c.generated);
  put_behaviour(&out, c);
  out["speed"] = speed_json(c.speed);
  out["memory"] = memory_json(c.memory);
  out["carried"] = c.carried;
  out["requantised"] = c.requantised;
  out["schemes"] = schemes_json(c.schemes);
  out["profile"] = profile_json(c);
  out["content_digest"] = c.content_digest;
  if (!c.parent_digest.empty()) out["parent_digest"] = c.parent_digest;
  out["evaluation"] = {{"sha256", c.evaluation_sha256}};
  return out;
}

}  // namespace fettle
