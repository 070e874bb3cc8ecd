#include "fit/sensitivity.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/progress.h"

namespace fettle {

namespace {

constexpr size_t kBands = 8;

double relative_error(const Sweep& sweep, const ResidualStream& expected, const ResidualStream& found) {
  double sum = 0;
  for (const Chunk& chunk : sweep.chunks())
    for (int64_t r = 0; r < chunk.count; ++r) {
      const float *x = expected.at(chunk) + r * sweep.width(), *y = found.at(chunk) + r * sweep.width();
      double moved = 0, norm = 0;
      for (int64_t c = 0; c < sweep.width(); ++c) {
        moved += static_cast<double>(y[c] - x[c]) * (y[c] - x[c]);
        norm += static_cast<double>(x[c]) * x[c];
      }
      if (norm > 0) sum += moved / norm;
    }
  return sum / static_cast<double>(std::max<int64_t>(1, sweep.rows()));
}

}  // namespace

CalibrationRun::CalibrationRun(const CalibrationInput& input)
    : in_(input),
      pool_(std::make_shared<ThreadPool>(input.threads)),
      store_(input.checkpoint, *pool_,
             WeightMemory(weights_allowed(input.source, input.memory) / 2, input.memory.spill_directory)) {}

Result<std::unique_ptr<CalibrationRun>> CalibrationRun::create(const CalibrationInput& input) {
  auto run = std::unique_ptr<CalibrationRun>(new CalibrationRun(input));
  auto exact = std::make_shared<TransientStore>(
      run->in_.source, run->in_.checkpoint, true, *run->pool_,
      WeightMemory(weights_allowed(input.source, input.memory) / 2, input.memory.spill_directory));
  TRY(run->source_, Executor::create({input.source, Plan{}, std::move(exact)}, run->executor_options()));
  TRY(Sweep sweep, Sweep::create(*run->source_, input.windows));
  run->sweep_ = std::make_unique<Sweep>(std::move(sweep));
  TRY(run->stream_, ResidualStream::create(*run->sweep_, input.memory.spill_directory));
  return run;
}

ExecutorOptions CalibrationRun::executor_options() const {
  constexpr int64_t kStep = 64;
  int64_t longest = 1;
  for (const TokenWindow& w : in_.windows) longest = std::max(longest, static_cast<int64_t>(w.size()));
  return {.pool = pool_,
          .isa = in_.isa,
          .max_tokens = kStep,
          .max_logit_rows = kStep,
          .cache_tokens = longest,
          .stream = true};
}

Result<CalibrationRun::Trial> CalibrationRun::trial(const std::map<std::string, std::string>& schemes) {
  PassOptions passes = in_.passes;
  passes.schemes = schemes;
  TRY(Graph graph, run_passes(in_.source, passes, nullptr));
  Trial made;
  TRY(made.executor, Executor::create({graph, Plan{}, store_.bind(graph)}, executor_options()));
  TRY(Sweep sweep, Sweep::create(*made.executor, in_.windows));
  made.sweep = std::make_unique<Sweep>(std::move(sweep));
  if (made.sweep->parts() != sweep_->parts() || made.sweep->width() != sweep_->width())
    return unsupported("the adapted graph has other layers than its source");
  return made;
}

Status CalibrationRun::run_part(Sweep& sweep, size_t part, ResidualStream& stream) {
  TRY_STATUS(sweep.open(part));
  for (const Chunk& chunk : sweep.chunks()) sweep.run(chunk, stream.at(chunk));
  return {};
}

Result<DriftSummary> CalibrationRun::compare_tails(Sweep& found, const ResidualStream& found_stream) {
  const int64_t vocab = in_.source.vocab;
  const size_t last = sweep_->parts() - 1;
  TRY_STATUS(sweep_->open(last));
  TRY_STATUS(found.open(last));
  std::vector<std::vector<PositionScore>> scores;
  for (const TokenWindow& window : in_.windows) scores.emplace_back(window.size());
  std::vector<float> expected;
  for (const Chunk& chunk : sweep_->chunks()) {
    // Copied, as both may be the same executor.
    const auto rows = sweep_->run(chunk, stream_.at(chunk));
    expected.assign(rows.begin(), rows.end());
    const auto logits = found.run(chunk, found_stream.at(chunk));
    score_chunk(*pool_, chunk, in_.windows[chunk.sequence], {expected, logits, vocab}, 0,
                &scores[chunk.sequence]);
  }
  return summarise(scores);
}

Result<DriftSummary> CalibrationRun::drift_of(const std::map<std::string, std::string>& schemes) {
  TRY(const Trial whole, trial(schemes));
  TRY(ResidualStream stream, ResidualStream::create(*sweep_, in_.memory.spill_directory));
  for (size_t part = 0; part + 1 < sweep_->parts(); ++part) {
    TRY_STATUS(run_part(*whole.sweep, part, stream));
    store_.forget();
  }
  auto drift = compare_tails(*whole.sweep, stream);
  store_.forget();
  return drift;
}

// The one pass of measure(): what is tried at every layer, and what is followed to the end.
class LayerTrials {
 public:
  LayerTrials(CalibrationRun& run, const std::vector<WeightGroup>& groups) : run_(run), groups_(groups) {}

  Result<std::vector<Sensitivity>> measure() {
    TRY_STATUS(prepare());
    const size_t parts = run_.sweep_->parts();
    Progress progress("measuring sensitivity", parts);
    for (size_t part = 0; part + 1 < parts; ++part) {
      TRY_STATUS(try_layer(part));
      run_.store_.forget();
      progress.add(1);
    }
    TRY_STATUS(try_tail());
    TRY_STATUS(measure_gains());
    run_.store_.forget();
    return estimates();
  }

 private:
  // One scheme for all groups of one kind; an empty kind changes nothing (what rounding inputs costs).
  struct Candidate {
    std::string kind, scheme;
    CalibrationRun::Trial trial;
    std::set<std::string> weights;
  };
  struct Band {
    size_t begin, end;  // parts
    ResidualStream stream;
    double gain = 0;
  };
  struct Measured {
    double error = 0;     // of the layer's output
    double tail_kld = 0;  // at the logits
  };

  Status prepare() {
    // Groups of one kind are tried together, as each layer is looked at by itself.
    std::map<std::string, std::vector<const WeightGroup*>> kinds;
    for (const WeightGroup& g : groups_) kinds[kind_of(g)].push_back(&g);
    TRY_STATUS(add_candidate("", "", {}));
    for (const auto& [kind, members] : kinds)
      for (const std::string& scheme : run_.in_.candidates) TRY_STATUS(add_candidate(kind, scheme, members));

    std::map<std::string, std::string> roughest;
    for (const WeightGroup& g : groups_)
      for (const std::string& scheme : run_.in_.candidates)
        if (row_fits(*parse_scheme(scheme), g.cols)) {
          for (const std::string& weight : g.weights) roughest[weight] = scheme;
          rough_scheme_[g.name] = scheme;
          break;
        }
    TRY(rough_, run_.trial(roughest));
    TRY(before_, stream());
    TRY(scratch_, stream());
    const size_t layers = run_.sweep_->parts() - 1, count = std::min(kBands, layers);
    for (size_t b = 0; b < count; ++b) {
      TRY(ResidualStream followed, stream());
      bands_.push_back({layers * b / count, layers * (b + 1) / count, std::move(followed), 0});
    }
    return {};
  }

  Result<ResidualStream> stream() const {
    return ResidualStream::create(*run_.sweep_, run_.in_.memory.spill_directory);
  }

  Status add_candidate(const std::string& kind, const std::string& scheme,
                       const std::vector<const WeightGroup*>& members) {
    Candidate candidate{kind, scheme, {}, {}};
    std::map<std::string, std::string> schemes;
    for (const WeightGroup* g : members) {
      if (!row_fits(*parse_scheme(scheme), g->cols)) continue;
      for (const std::string& weight : g->weights) {
        schemes[weight] = scheme;
        candidate.weights.insert(weight);
      }
    }
    if (schemes.empty() && !kind.empty()) return {};
    TRY(candidate.trial, run_.trial(schemes));
    candidates_.push_back(std::move(candidate));
    return {};
  }

  // Whether a part reads any of the weights.
  bool concerns(const Candidate& candidate, size_t part) const {
    if (candidate.kind.empty()) return true;
    const Graph& graph = run_.in_.source;
    const int64_t layer = run_.sweep_->layer(part);
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      const Node& node = graph.nodes[i];
      const bool tail = part + 1 == run_.sweep_->parts();
      const bool here = node.layer == layer && (layer >= 0 || is_tail(i) == tail);
      if (!here) continue;
      for (const WeightRef& ref : node.weights)
        if (candidate.weights.count(ref.weight)) return true;
    }
    return false;
  }
  bool is_tail(size_t node) const {
    const std::vector<Node>& nodes = run_.in_.source.nodes;
    return node > 0 && std::any_of(nodes.begin(), nodes.begin() + static_cast<int64_t>(node),
                                   [](const Node& n) { return n.layer >= 0; });
  }

  Measured& measured(const std::string& kind, int64_t layer, const std::string& scheme) {
    return measured_[{layer >= 0 ? fmt::format("layers.{}.{}", layer, kind) : kind, scheme}];
  }

  Status try_layer(size_t part) {
    before_.copy_from(run_.stream_);
    TRY_STATUS(run_.run_part(*run_.sweep_, part, run_.stream_));
    double rounding = 0;
    for (Candidate& candidate : candidates_) {
      if (!concerns(candidate, part)) continue;
      scratch_.copy_from(before_);
      TRY_STATUS(run_.run_part(*candidate.trial.sweep, part, scratch_));
      candidate.trial.sweep->close();
      const double error = relative_error(*run_.sweep_, run_.stream_, scratch_);
      if (candidate.kind.empty())
        rounding = error;
      else
        measured(candidate.kind, run_.sweep_->layer(part), candidate.scheme).error +=
            std::max(0.0, error - rounding);
    }
    return follow_bands(part);
  }

  // Coded inside its band, exact behind it.
  Status follow_bands(size_t part) {
    for (Band& band : bands_) {
      if (part == band.begin) band.stream.copy_from(before_);
      if (part >= band.begin && part < band.end) {
        TRY_STATUS(run_.run_part(*rough_.sweep, part, band.stream));
      } else if (part >= band.end) {
        TRY_STATUS(run_.run_part(*run_.sweep_, part, band.stream));
      }
    }
    rough_.sweep->close();
    return {};
  }

  Status try_tail() {
    const size_t tail = run_.sweep_->parts() - 1;
    double rounding = 0;
    for (Candidate& candidate : candidates_) {
      if (!concerns(candidate, tail)) continue;
      TRY(const DriftSummary drift, run_.compare_tails(*candidate.trial.sweep, run_.stream_));
      candidate.trial.sweep->close();
      if (candidate.kind.empty())
        rounding = drift.kld_mean.value;
      else
        measured(candidate.kind, -1, candidate.scheme).tail_kld =
            std::max(0.0, drift.kld_mean.value - rounding);
    }
    return {};
  }

  size_t band_of(int64_t layer) const {
    for (size_t b = 0; b < bands_.size(); ++b)
      for (size_t part = bands_[b].begin; part < bands_[b].end; ++part)
        if (run_.sweep_->layer(part) == layer) return b;
    return 0;
  }

  Status measure_gains() {
    std::vector<double> errors(bands_.size(), 0);
    for (const WeightGroup& g : groups_)
      errors[band_of(g.layer)] += measured_[{g.name, rough_scheme_[g.name]}].error;
    for (size_t b = 0; b < bands_.size(); ++b) {
      TRY(const DriftSummary drift, run_.compare_tails(*run_.sweep_, bands_[b].stream));
      bands_[b].gain = errors[b] > 0 ? drift.kld_mean.value / errors[b] : 0;
    }
    return {};
  }

  std::vector<Sensitivity> estimates() {
    std::vector<Sensitivity> out;
    for (const WeightGroup& g : groups_)
      for (const std::string& scheme : run_.in_.candidates) {
        const auto it = measured_.find({g.name, scheme});
        if (it == measured_.end()) continue;
        out.push_back(
            {g.name, scheme, bands_[band_of(g.layer)].gain * it->second.error + it->second.tail_kld});
      }
    return out;
  }

  CalibrationRun& run_;
  const std::vector<WeightGroup>& groups_;
  std::vector<Candidate> candidates_;
  CalibrationRun::Trial rough_;  // every group in the roughest scheme it can take
  std::map<std::string, std::string> rough_scheme_;
  std::vector<Band> bands_;
  ResidualStream before_, scratch_;  // before_: the source's input of the layer
  std::map<std::pair<std::string, std::string>, Measured> measured_;  // by group and scheme
};

Result<std::vector<Sensitivity>> CalibrationRun::measure(const std::vector<WeightGroup>& groups) {
  return LayerTrials(*this, groups).measure();
}

}  // namespace fettle
