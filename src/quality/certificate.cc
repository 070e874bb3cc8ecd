#include "quality/certificate.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/check.h"
#include "quality/wording.h"

namespace fettle {

namespace {

struct Limit {
  std::string_view key;  // in the text form
  std::string_view title;
  std::optional<double> Budget::*value;
  bool at_most;
  enum { kFigure, kShare, kRatio } kind;
  bool is_share() const { return kind == kShare; }
};
constexpr std::array<Limit, 4> kLimits{{
    {"kld", "KLD mean", &Budget::kld_mean, true, Limit::kFigure},
    {"p99", "KLD p99", &Budget::kld_p99, true, Limit::kFigure},
    {"top1", "same top token", &Budget::top1_min, false, Limit::kShare},
    {"ppl", "perplexity ratio", &Budget::ppl_ratio_max, true, Limit::kRatio},
}};

std::string known_limits() {
  std::string out;
  for (const Limit& limit : kLimits) out += (out.empty() ? "" : ", ") + std::string(limit.key);
  return out;
}

Status parse_limit(std::string_view item, Budget* budget) {
  const size_t equals = item.find('=');
  const std::string_view key = item.substr(0, equals);
  const auto limit =
      std::find_if(kLimits.begin(), kLimits.end(), [&](const Limit& l) { return l.key == key; });
  if (limit == kLimits.end()) {
    return make_error(Code::kUsage, "budget: unknown limit '{}'; known are {}, as in kld=0.01,top1=0.97",
                      wording::printable(key), known_limits());
  }
  if (budget->*limit->value) return make_error(Code::kUsage, "budget: '{}' is given twice; keep one", key);
  const std::string_view text = equals == std::string_view::npos ? "" : item.substr(equals + 1);
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_number = failed == std::errc() && end == text.data() + text.size() && std::isfinite(value);
  if (!is_number || value < 0 || (limit->is_share() && value > 1)) {
    return make_error(
        Code::kUsage, "budget: '{}' is '{}'; expected {}", key, wording::printable(text),
        limit->is_share() ? "a share from 0 to 1, such as 0.97" : "a number from 0 up, such as 0.01");
  }
  budget->*limit->value = value;
  return {};
}

Interval measured_value(const Limit& limit, const DriftSummary& drift) {
  const auto alone = [](double value) { return Interval{value, kNotMeasured, kNotMeasured}; };
  if (limit.value == &Budget::kld_mean) return drift.kld_mean;
  if (limit.value == &Budget::kld_p99) return alone(drift.kld_p99);
  if (limit.value == &Budget::top1_min) return drift.top1_agreement;
  return alone(drift.perplexity_adapted / drift.perplexity_source);
}

// The measured value in the digits that its limit deserves: a perplexity ratio of 1.0049 is not "1.00".
std::string shown(const Limit& limit, double value) {
  if (std::isnan(value)) return "not measured";
  if (limit.is_share()) return wording::percent(value);
  return limit.kind == Limit::kRatio && std::isfinite(value) ? fmt::format("{:.4f}", value)
                                                             : wording::figure(value);
}

Verdict judge(const Limit& limit, double bound, const DriftSummary& drift, const std::string& text_name) {
  const Interval m = measured_value(limit, drift);
  const auto within = [&](double x) { return limit.at_most ? x <= bound : x >= bound; };
  const std::string range = limit.is_share() ? wording::percent_interval(m) : wording::interval(m);

  Verdict verdict{fmt::format("{}, {}", limit.title, text_name), m.value, bound, within(m.value), ""};
  verdict.why = fmt::format("{}, allowed at {} {}", shown(limit, m.value), limit.at_most ? "most" : "least",
                            limit.is_share() ? wording::percent(bound) : fmt::format("{}", bound));
  if (range.empty()) return verdict;
  const bool crosses = within(m.low) != within(m.high);
  verdict.why += fmt::format("; 95 % interval {}{}", range, crosses ? ", across the limit" : "");
  return verdict;
}

// What no budget can excuse: nothing compared, or an output that is no distribution.
void judge_soundness(const DriftSummary& drift, const std::string& text_name,
                     std::vector<Verdict>* verdicts) {
  if (drift.positions <= 0) {
    verdicts->push_back(
        {"measured, " + text_name, kNotMeasured, kNotMeasured, false, "no position was compared"});
  } else if (!std::isfinite(drift.kld_max)) {
    verdicts->push_back(
        {"finite, " + text_name, drift.kld_max, kNotMeasured, false,
         "an output was no probability distribution, or excluded a token that the source allows"});
  }
}

void judge_part(const DriftPart& part, const std::string& text_name, const Budget& budget,
                std::vector<Verdict>* verdicts) {
  judge_soundness(part.drift, text_name, verdicts);
  for (const Limit& limit : kLimits) {
    if (const auto bound = budget.*limit.value)
      verdicts->push_back(judge(limit, *bound, part.drift, text_name));
  }
}

}  // namespace

Result<Budget> parse_budget(std::string_view text) {
  Budget budget;
  if (text.empty())
    return make_error(Code::kUsage, "budget: empty; expected limits such as kld=0.01,top1=0.97");
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    TRY_STATUS(parse_limit(text.substr(begin, end - begin), &budget));
    begin = end + 1;
  }
  return budget;
}

std::string budget_text(const Budget& budget) {
  std::string out;
  for (const Limit& limit : kLimits) {
    if (const auto bound = budget.*limit.value) {
      out += fmt::format("{}{}={}", out.empty() ? "" : ",", limit.key, *bound);
    }
  }
  return out;
}

DriftPart drift_part(std::span<const std::vector<PositionScore>> windows, int64_t buckets) {
  CHECK(buckets > 0, "{}", buckets);
  DriftPart part;
  part.drift = summarise(windows);
  size_t longest = 0;
  std::vector<double> klds;
  for (const auto& window : windows) {
    longest = std::max(longest, window.size());
    for (const PositionScore& p : window) klds.push_back(p.kld);
  }
  if (klds.empty()) return part;
  for (const double q : {0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0}) {
    part.kld_quantiles.push_back({q, quantile(klds, q)});
  }
  const auto width = (longest + static_cast<size_t>(buckets) - 1) / static_cast<size_t>(buckets);
  std::vector<double> sums((longest + width - 1) / width), counts(sums.size());
  for (const auto& window : windows) {
    for (size_t i = 0; i < window.size(); ++i) {
      sums[i / width] += window[i].kld;
      counts[i / width] += 1;
    }
  }
  for (size_t i = 0; i < sums.size(); ++i) part.kld_by_position.push_back(sums[i] / counts[i]);
  part.position_bucket = static_cast<int64_t>(width);
  return part;
}

TaskScore task_score(std::string name, int64_t count, int64_t source_right, int64_t adapted_right) {
  return {std::move(name), count, proportion(source_right, count), proportion(adapted_right, count)};
}

std::span<const NamedCheck> certificate_checks() {
  static constexpr std::array<NamedCheck, 3> kChecks{{
      {"template_round_trip", "chat template and tool calls", &Certificate::template_round_trip},
      {"repetition", "no runaway repetition", &Certificate::repetition},
      {"language_mix", "no language mixing", &Certificate::language_mix},
  }};
  return kChecks;
}

std::string_view certificate_outcome(const Certificate& certificate) {
  if (!certificate.passed) return "FAILED";
  return certificate.budget.empty() ? "MEASURED" : "PASSED";
}

std::string checks_not_tried(const Certificate& certificate) {
  std::string titles;
  for (const NamedCheck& named : certificate_checks())
    if (!(certificate.*named.check)) titles += fmt::format("{}{}", titles.empty() ? "" : ", ", named.title);
  return titles;
}

void apply_budget(Certificate* certificate) {
  std::vector<Verdict> verdicts;
  judge_part(certificate->evaluation, "held-out text", certificate->budget, &verdicts);
  if (certificate->generated) {
    judge_part(*certificate->generated, "generated text", certificate->budget, &verdicts);
  }
  for (const NamedCheck& named : certificate_checks()) {
    const std::optional<Check>& check = certificate->*named.check;
    if (!check) continue;
    verdicts.push_back({std::string(named.title), kNotMeasured, kNotMeasured, check->passed, check->detail});
  }
  certificate->passed =
      std::all_of(verdicts.begin(), verdicts.end(), [](const Verdict& v) { return v.passed; });
  certificate->verdicts = std::move(verdicts);
}

}  // namespace fettle
