#include "plan/plan.h"

#include <charconv>

namespace fettle {

Json rates_to_json(const Rates& r) {
  return {{"cpu", r.cpu},
          {"isa", r.isa},
          {"threads", r.threads},
          {"bandwidth_gbs", r.bandwidth_gbs},
          {"bandwidth_1_gbs", r.bandwidth_1_gbs},
          {"int8_gops", r.int8_gops},
          {"bf16_gflops", r.bf16_gflops},
          {"f32_gflops", r.f32_gflops},
          {"l2_bytes", r.l2_bytes},
          {"l3_bytes", r.l3_bytes},
          {"memory_bytes", r.memory_bytes}};
}

Result<Rates> rates_from_json(const Json& json, const std::string& what) {
  const JsonReader in(json, what);
  Rates r;
  TRY(r.cpu, in.string("cpu"));
  TRY(r.isa, in.string("isa"));
  TRY(r.threads, in.integer("threads"));
  TRY(r.bandwidth_gbs, in.number("bandwidth_gbs"));
  TRY(r.bandwidth_1_gbs, in.number("bandwidth_1_gbs"));
  TRY(r.int8_gops, in.number("int8_gops"));
  TRY(r.bf16_gflops, in.number("bf16_gflops"));
  TRY(r.f32_gflops, in.number("f32_gflops"));
  TRY(r.l2_bytes, in.integer("l2_bytes"));
  TRY(r.l3_bytes, in.integer("l3_bytes"));
  TRY(r.memory_bytes, in.integer("memory_bytes"));
  return r;
}

namespace {

struct DraftKindName {
  DraftKind kind;
  std::string_view name;
  int64_t usual;  // number of tokens
};
constexpr DraftKindName kDraftKinds[] = {
    {DraftKind::kNone, "none", 0}, {DraftKind::kMtp, "mtp", 1}, {DraftKind::kNgram, "ngram", 4}};

}  // namespace

std::string speculation_text(const Speculation& s) {
  const std::string name(kDraftKinds[static_cast<int>(s.kind)].name);
  return s.kind == DraftKind::kNone ? name : fmt::format("{}:{}", name, s.tokens);
}

Result<Speculation> parse_speculation(const std::string& text) {
  const size_t colon = text.find(':');
  for (const DraftKindName& k : kDraftKinds) {
    if (text.substr(0, colon) != k.name) continue;
    if (colon == std::string::npos) return Speculation{k.kind, k.usual};
    int64_t tokens = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + colon + 1, end, tokens);
    if (error != std::errc() || stop != end || k.kind == DraftKind::kNone || tokens < 1 ||
        tokens > kMostDrafts)
      break;
    return Speculation{k.kind, tokens};
  }
  return make_error(
      Code::kUsage,
      "speculation '{}'; expected none, mtp or ngram, the latter two also as mtp:N with N from 1 to {}", text,
      kMostDrafts);
}

Json measured_to_json(const MeasuredSpeculation& m) {
  return {
      {"speculation", speculation_text(m.speculation)}, {"batch", m.batch}, {"plain_tok_s", m.plain_tok_s},
      {"speculative_tok_s", m.speculative_tok_s},       {"gain", m.gain},   {"acceptance", m.acceptance}};
}

Json plan_to_json(const Plan& plan) {
  Json json = {{"schema_version", 1},
               {"target", plan.target},
               {"objective", plan.objective},
               {"kv_type", plan.kv_type},
               {"prefill_chunk", plan.prefill_chunk},
               {"expand_grid", plan.expand_grid},
               {"activations", plan.activations},
               {"simulate_rounding", plan.simulate_rounding}};
  json["schemes"] = Json::object();
  for (const auto& [weight, scheme] : plan.schemes) json["schemes"][weight] = scheme;
  json["weights"] = Json::object();
  for (const auto& [name, w] : plan.weights)
    json["weights"][name] = {{"scheme", w.scheme}, {"layout", w.layout}, {"reason", w.reason}};
  json["kernels"] = Json::array();
  for (const KernelPlan& k : plan.kernels)
    json["kernels"].push_back({{"scheme", k.scheme},
                               {"activation", k.activation},
                               {"kernel", k.kernel},
                               {"t_min", k.t_min},
                               {"t_max", k.t_max},
                               {"read_gbs", k.read_gbs},
                               {"gops", k.gops}});
  json["sensitivity"] = Json::array();
  for (const Sensitivity& s : plan.sensitivity)
    json["sensitivity"].push_back({{"group", s.group}, {"scheme", s.scheme}, {"kld", s.kld}});
  json["speculation"] = {{"use", speculation_text(plan.speculation)}, {"measured", Json::array()}};
  for (const MeasuredSpeculation& m : plan.speculations)
    json["speculation"]["measured"].push_back(measured_to_json(m));
  json["rates"] = rates_to_json(plan.rates);
  return json;
}

namespace {

Status read_weights(const Json& json, const std::string& what, Plan* plan) {
  if (!json.is_object()) return bad_input("{}: 'weights' must be an object", what);
  for (const auto& [name, value] : json.items()) {
    const JsonReader in(value, what + ": weights: " + name);
    WeightPlan w;
    TRY(w.scheme, in.string("scheme"));
    TRY(w.layout, in.string("layout"));
    TRY(w.reason, in.string("reason"));
    plan->weights[name] = std::move(w);
  }
  return {};
}

Result<Speculation> read_speculation(const JsonReader& in, const std::string& field) {
  TRY(const std::string text, in.string(field));
  auto parsed = parse_speculation(text);
  if (!parsed.ok()) return bad_input("{}: {}", in.what(), parsed.error().message());
  return parsed;
}

Status read_speculations(const JsonReader& plan, Plan* out) {
  if (!plan.has("speculation")) return {};  // of a plan made before there was any
  TRY(const JsonReader in, plan.object("speculation"));
  TRY(out->speculation, read_speculation(in, "use"));
  if (!in.json().contains("measured") || !in.json()["measured"].is_array())
    return bad_input("{}: field 'measured' must be a list", in.what());
  for (const Json& entry : in.json()["measured"]) {
    const JsonReader m(entry, in.what() + ": measured");
    MeasuredSpeculation measured;
    TRY(measured.speculation, read_speculation(m, "speculation"));
    TRY(measured.batch, m.integer("batch"));
    TRY(measured.plain_tok_s, m.number("plain_tok_s"));
    TRY(measured.speculative_tok_s, m.number("speculative_tok_s"));
    TRY(measured.gain, m.number("gain"));
    TRY(measured.acceptance, m.number("acceptance"));
    out->speculations.push_back(measured);
  }
  return {};
}

}  // namespace

Result<Plan> plan_from_json(const Json& json, const std::string& what) {
  const JsonReader in(json, what);
  TRY(const int64_t version, in.integer("schema_version"));
  if (version != 1) return unsupported("{}: schema_version {}; this fettle reads 1", what, version);
  Plan plan;
  TRY(plan.target, in.string("target"));
  TRY(plan.objective, in.string("objective"));
  TRY(plan.kv_type, in.string("kv_type"));
  TRY(plan.prefill_chunk, in.integer("prefill_chunk"));
  if (plan.prefill_chunk < 1 || plan.prefill_chunk > 65536)
    return bad_input("{}: prefill_chunk is {}", what, plan.prefill_chunk);
  TRY(plan.expand_grid, in.integer_or("expand_grid", 0));
  if (plan.expand_grid < 0 || plan.expand_grid > 65536)
    return bad_input("{}: expand_grid is {}", what, plan.expand_grid);
  TRY(plan.activations, in.string_or("activations", "float"));
  if (plan.activations != "float" && plan.activations != "e4m3-fp32" && plan.activations != "e4m3-ue8m0")
    return bad_input("{}: activations is '{}'; expected float, e4m3-fp32 or e4m3-ue8m0", what,
                     plan.activations);
  TRY(plan.simulate_rounding, in.boolean_or("simulate_rounding", false));
  TRY(const JsonReader schemes, in.object("schemes"));
  for (const auto& [weight, scheme] : schemes.json().items()) {
    if (!scheme.is_string()) return bad_input("{}: schemes: '{}' must be a string", what, weight);
    plan.schemes[weight] = scheme.get<std::string>();
  }
  TRY(const JsonReader weights, in.object("weights"));
  TRY_STATUS(read_weights(weights.json(), what, &plan));
  const auto list = [&](const char* field) -> Json {
    return json.contains(field) && json[field].is_array() ? json[field] : Json::array();
  };
  for (const Json& entry : list("kernels")) {
    const JsonReader k(entry, what + ": kernels");
    KernelPlan kernel;
    TRY(kernel.scheme, k.string("scheme"));
    TRY(kernel.activation, k.string("activation"));
    TRY(kernel.kernel, k.string("kernel"));
    TRY(kernel.t_min, k.integer("t_min"));
    TRY(kernel.t_max, k.integer("t_max"));
    TRY(kernel.read_gbs, k.number("read_gbs"));
    TRY(kernel.gops, k.number("gops"));
    plan.kernels.push_back(std::move(kernel));
  }
  for (const Json& entry : list("sensitivity")) {
    const JsonReader s(entry, what + ": sensitivity");
    Sensitivity sensitivity;
    TRY(sensitivity.group, s.string("group"));
    TRY(sensitivity.scheme, s.string("scheme"));
    TRY(sensitivity.kld, s.number("kld"));
    plan.sensitivity.push_back(std::move(sensitivity));
  }
  TRY_STATUS(read_speculations(in, &plan));
  TRY(const JsonReader rates, in.object("rates"));
  TRY(plan.rates, rates_from_json(rates.json(), what + ": rates"));
  return plan;
}

}  // namespace fettle
