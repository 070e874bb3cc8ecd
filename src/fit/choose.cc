#include "fit/choose.h"

#include <algorithm>
#include <cmath>

#include "base/log.h"

namespace fettle {

namespace {

struct ObjectiveName {
  Objective objective;
  std::string_view name;
};
constexpr ObjectiveName kObjectives[] = {
    {Objective::kLatency, "latency"}, {Objective::kThroughput, "throughput"}, {Objective::kMemory, "memory"}};

constexpr std::pair<std::string_view, std::string_view> kEverydayNames[] = {
    {"int8", "i8c"}, {"int4", "i4g32"}, {"int4-zero-point", "i4g32z"}};

// One way to store one group.
struct Option {
  std::string scheme;  // "" keeps the source's
  double cost = 0;     // seconds a token, or bytes
  double kld = 0;      // measured alone
};
struct GroupState {
  WeightGroup group;
  std::vector<Option> options;  // ascending cost
  size_t chosen = 0;
};

class Chooser {
 public:
  explicit Chooser(const ChooseInput& input) : in_(input) {}

  Result<Choice> run() {
    TRY(run_, CalibrationRun::create(in_.calibration));
    std::vector<WeightGroup> groups = weight_groups(in_.calibration.source);
    std::erase_if(groups, [](const WeightGroup& g) { return g.carried_blocks; });
    TRY(sensitivity_, run_->measure(groups));
    TRY(const DriftSummary carried, run_->drift_of({}));
    base_kld_ = carried.kld_mean.value;
    for (WeightGroup& group : groups) add_state(std::move(group));
    return settle();
  }

 private:
  void add_state(WeightGroup group) {
    GroupState state{std::move(group), {}, 0};
    state.options.push_back({"", cost(state.group, ""), 0});
    for (const Sensitivity& s : sensitivity_)
      if (s.group == state.group.name)
        state.options.push_back({s.scheme, cost(state.group, s.scheme), s.kld});
    prune(state);
    states_.push_back(std::move(state));
  }

  std::map<std::string, std::string> schemes_with(const WeightGroup& group, const std::string& scheme) const {
    std::map<std::string, std::string> schemes;
    if (!scheme.empty())
      for (const std::string& weight : group.weights) schemes[weight] = scheme;
    return schemes;
  }

  double cost(const WeightGroup& group, const std::string& scheme_text) const {
    const std::string name =
        scheme_text.empty()
            ? std::string(scheme_name(in_.calibration.source.find_weight(group.weights[0])->expr->scheme))
            : scheme_text;
    const Scheme scheme = *parse_scheme(name);
    const double bytes = static_cast<double>(group.parameters) / static_cast<double>(group.cols) *
                         static_cast<double>(row_bytes(scheme, group.cols));
    const MeasuredKernel* kernel = in_.target.find(name);
    if (in_.objective == Objective::kMemory || !kernel) return bytes;
    if (in_.objective == Objective::kLatency) return bytes / (kernel->read_gbs * 1e9);
    return 2.0 * static_cast<double>(group.parameters) / (kernel->gops * 1e9);
  }

  // Keeps the options that are not beaten in both cost and loss.
  static void prune(GroupState& state) {
    std::stable_sort(state.options.begin(), state.options.end(), [](const Option& a, const Option& b) {
      return a.cost != b.cost ? a.cost < b.cost : a.kld < b.kld;
    });
    std::vector<Option> kept;
    for (const Option& option : state.options)
      if (kept.empty() || option.kld < kept.back().kld) kept.push_back(option);
    state.options = std::move(kept);
  }

  std::map<std::string, std::string> chosen() const {
    std::map<std::string, std::string> schemes;
    for (const GroupState& s : states_)
      for (const auto& [weight, scheme] : schemes_with(s.group, s.options[s.chosen].scheme))
        schemes[weight] = scheme;
    return schemes;
  }

  double predicted() const {
    double sum = base_kld_;
    for (const GroupState& s : states_) sum += s.options[s.chosen].kld;
    return sum;
  }

  // The upgrade that loses least speed for each nat it wins; false when nothing is left to upgrade.
  bool upgrade() {
    GroupState* best = nullptr;
    size_t best_option = 0;
    double best_rate = -1;
    for (GroupState& s : states_)
      for (size_t o = s.chosen + 1; o < s.options.size(); ++o) {
        const double gain = s.options[s.chosen].kld - s.options[o].kld;
        const double rate = gain / std::max(s.options[o].cost - s.options[s.chosen].cost, 1e-30);
        if (rate > best_rate) best_rate = rate, best = &s, best_option = o;
      }
    if (!best) return false;
    best->chosen = best_option;
    return true;
  }

  bool meets(const DriftSummary& d) const {
    const Budget& b = in_.budget;
    return (!b.kld_mean || d.kld_mean.value <= *b.kld_mean) && (!b.kld_p99 || d.kld_p99 <= *b.kld_p99) &&
           (!b.top1_min || d.top1_agreement.value >= *b.top1_min) &&
           (!b.ppl_ratio_max || d.perplexity_adapted <= *b.ppl_ratio_max * d.perplexity_source);
  }

  // Losses of single groups add up only roughly: choose by the sum, measure the whole, correct the sum by
  // what was measured, until it fits. Some of the budget is kept in hand, as held-out text will differ.
  Result<Choice> settle() {
    constexpr double kInHand = 0.8, kTighten = 0.7;
    double allowed = in_.budget.kld_mean ? *in_.budget.kld_mean * kInHand : INFINITY, correction = 1;
    Choice choice;
    for (int round = 1;; ++round) {
      while (correction * predicted() > allowed && upgrade()) {
      }
      choice.schemes = chosen();
      log_info("measuring choice {}: {} of {} groups as the source has them", round,
               std::count_if(states_.begin(), states_.end(),
                             [](const GroupState& s) { return s.options[s.chosen].scheme.empty(); }),
               states_.size());
      TRY(choice.reached, run_->drift_of(choice.schemes));
      const double kld = choice.reached.kld_mean.value;
      choice.within_budget = meets(choice.reached);
      if (choice.within_budget && (!in_.budget.kld_mean || kld <= *in_.budget.kld_mean * kInHand)) break;
      correction = std::max(correction, kld / std::max(predicted(), 1e-12));
      if (choice.within_budget || kld <= allowed)
        allowed = std::min(allowed, kTighten * correction * predicted());
      if (!upgrade()) break;
    }
    choice.sensitivity = std::move(sensitivity_);
    return choice;
  }

  const ChooseInput& in_;
  std::unique_ptr<CalibrationRun> run_;
  std::vector<GroupState> states_;
  std::vector<Sensitivity> sensitivity_;
  double base_kld_ = 0;
};

}  // namespace

Result<Objective> parse_objective(const std::string& name) {
  for (const ObjectiveName& o : kObjectives)
    if (o.name == name) return o.objective;
  return make_error(Code::kUsage, "objective '{}'; expected latency, throughput or memory", name);
}
std::string_view objective_name(Objective objective) { return kObjectives[static_cast<int>(objective)].name; }

Result<std::string> parse_scheme_choice(const std::string& name) {
  for (const auto& [everyday, scheme] : kEverydayNames)
    if (everyday == name) return std::string(scheme);
  if (parse_scheme(name)) return name;
  std::string known = "int8, int4, int4-zero-point";
  for (const SchemeInfo& info : all_schemes()) known += ", " + std::string(info.name);
  return make_error(Code::kUsage, "scheme '{}'; expected one of {}", name, known);
}

Result<Choice> choose_by_budget(const ChooseInput& input) { return Chooser(input).run(); }

std::map<std::string, std::string> choose_uniform(const Graph& source, const std::string& scheme) {
  std::map<std::string, std::string> schemes;
  for (const WeightGroup& group : weight_groups(source))
    for (const std::string& weight : group.weights) schemes[weight] = scheme;
  return schemes;
}

}  // namespace fettle
