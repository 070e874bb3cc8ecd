#include "fit/choose.h"

#include <algorithm>
#include <cmath>

#include "base/progress.h"
#include "fit/shared_store.h"

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
  explicit Chooser(const ChooseInput& input)
      : in_(input), pool_(input.threads), store_(input.checkpoint, pool_) {}

  Result<Choice> run() {
    TRY_STATUS(open_source());
    for (WeightGroup& group : weight_groups(in_.source))
      if (!group.carried_blocks) states_.push_back({std::move(group), {}, 0});
    TRY_STATUS(measure_all());
    return settle();
  }

 private:
  // The source's logits of the calibration windows, once.
  Status open_source() {
    auto exact = std::make_shared<TransientStore>(in_.source, in_.checkpoint, true, pool_);
    TRY(auto source, Executor::create({in_.source, Plan{}, std::move(exact)}, executor_options()));
    for (const TokenWindow& window : in_.calibration) {
      Sequence sequence;
      std::vector<float>& logits = source_logits_.emplace_back();
      TRY(const auto last,
          source->feed(sequence, window, kChunk, [&](int64_t, std::span<const float> rows, int64_t) {
            logits.insert(logits.end(), rows.begin(), rows.end());
          }));
      (void)last;
      source->cache().release(sequence);
    }
    return {};
  }

  ExecutorOptions executor_options() const {
    int64_t longest = 1;
    for (const TokenWindow& w : in_.calibration) longest = std::max(longest, static_cast<int64_t>(w.size()));
    return {.threads = in_.threads,
            .isa = in_.isa,
            .max_tokens = kChunk,
            .max_logit_rows = kChunk,
            .cache_tokens = longest};
  }

  Result<DriftSummary> drift_of(const std::map<std::string, std::string>& schemes) {
    PassOptions passes = in_.passes;
    passes.schemes = schemes;
    TRY(Graph graph, run_passes(in_.source, passes, nullptr));
    TRY(auto adapted, Executor::create({graph, Plan{}, store_.bind(graph)}, executor_options()));
    const int64_t vocab = graph.vocab;
    std::vector<std::vector<PositionScore>> scores;
    for (size_t w = 0; w < in_.calibration.size(); ++w) {
      const TokenWindow& window = in_.calibration[w];
      std::vector<PositionScore>& out = scores.emplace_back(window.size());
      Sequence sequence;
      TRY(const auto last,
          adapted->feed(sequence, window, kChunk, [&](int64_t first, std::span<const float> rows, int64_t n) {
            pool_.for_each(n, [&](int64_t i) {
              const size_t position = static_cast<size_t>(first + i);
              const int32_t next = position + 1 < window.size() ? window[position + 1] : -1;
              out[position] = score_position(
                  {source_logits_[w].data() + static_cast<int64_t>(position) * vocab,
                   static_cast<size_t>(vocab)},
                  rows.subspan(static_cast<size_t>(i * vocab), static_cast<size_t>(vocab)), next);
            });
          }));
      (void)last;
      adapted->cache().release(sequence);
    }
    return summarise(scores);
  }

  std::map<std::string, std::string> schemes_with(const WeightGroup& group, const std::string& scheme) const {
    std::map<std::string, std::string> schemes;
    if (!scheme.empty())
      for (const std::string& weight : group.weights) schemes[weight] = scheme;
    return schemes;
  }

  double cost(const WeightGroup& group, const std::string& scheme_text) const {
    const std::string name =
        scheme_text.empty() ? std::string(scheme_name(in_.source.find_weight(group.weights[0])->expr->scheme))
                            : scheme_text;
    const Scheme scheme = *parse_scheme(name);
    const double bytes = static_cast<double>(group.parameters) / static_cast<double>(group.cols) *
                         static_cast<double>(row_bytes(scheme, group.cols));
    const MeasuredKernel* kernel = in_.target.find(name);
    if (in_.objective == Objective::kMemory || !kernel) return bytes;
    if (in_.objective == Objective::kLatency) return bytes / (kernel->read_gbs * 1e9);
    return 2.0 * static_cast<double>(group.parameters) / (kernel->gops * 1e9);
  }

  Status measure_all() {
    TRY(const DriftSummary carried, drift_of({}));
    Progress progress("measuring sensitivity", states_.size() * in_.candidates.size());
    for (GroupState& state : states_) {
      state.options.push_back({"", cost(state.group, ""), 0});
      for (const std::string& scheme : in_.candidates) {
        progress.add(1);
        if (!row_fits(*parse_scheme(scheme), state.group.cols)) continue;
        TRY(const DriftSummary drift, drift_of(schemes_with(state.group, scheme)));
        const double kld = std::max(0.0, drift.kld_mean.value - carried.kld_mean.value);
        state.options.push_back({scheme, cost(state.group, scheme), kld});
        sensitivity_.push_back({state.group.name, scheme, kld});
      }
      prune(state);
    }
    base_kld_ = carried.kld_mean.value;
    return {};
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

  // Losses of single groups add up only roughly: choose by the sum, measure the whole, tighten until the
  // measurement fits. Some of the budget is kept in hand, as held-out text will differ.
  Result<Choice> settle() {
    constexpr double kInHand = 0.8;
    double allowed = in_.budget.kld_mean ? *in_.budget.kld_mean * kInHand : INFINITY;
    Choice choice;
    while (true) {
      while (predicted() > allowed && upgrade()) {
      }
      choice.schemes = chosen();
      TRY(choice.reached, drift_of(choice.schemes));
      choice.within_budget = meets(choice.reached);
      const bool in_hand =
          !in_.budget.kld_mean || choice.reached.kld_mean.value <= *in_.budget.kld_mean * kInHand;
      if ((choice.within_budget && in_hand) || !upgrade()) break;
      allowed = std::min(allowed, predicted());
    }
    choice.sensitivity = std::move(sensitivity_);
    return choice;
  }

  static constexpr int64_t kChunk = 64;
  const ChooseInput& in_;
  ThreadPool pool_;
  SharedStore store_;
  std::vector<std::vector<float>> source_logits_;
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
