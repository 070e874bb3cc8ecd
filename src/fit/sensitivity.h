// What each group of weights costs in quality, by scheme, measured on calibration text in one pass over the
// model, layer by layer, so that a model larger than memory is read once. Two measurements make an estimate:
//   error(group, scheme): given the source's own input of a layer, how far its output moves when one group is
//                         coded: the mean over rows of |moved|^2 / |output|^2, what rounding inputs costs
//                         taken off;
//   gain(band): the nats that a unit of such error becomes at the logits, from a band of layers all coded and
//               followed to the end beside the source.
//   kld(group, scheme) = gain(band) * error(group, scheme); the last linear's is measured at the logits
//   itself.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fit/memory.h"
#include "fit/shared_store.h"
#include "passes/pass.h"
#include "quality/evaluate.h"
#include "runtime/sweep.h"

namespace fettle {

struct CalibrationInput {
  const Checkpoint& checkpoint;
  const Graph& source;  // unmodified
  const std::vector<TokenWindow>& windows;
  std::vector<std::string> candidates;  // schemes, roughest first
  PassOptions passes;
  int threads;
  Isa isa;
  MemoryBound memory;
};

class CalibrationRun {
 public:
  static Result<std::unique_ptr<CalibrationRun>> create(const CalibrationInput& input);

  // Every group with every candidate that its rows can be coded in. To be called first.
  Result<std::vector<Sensitivity>> measure(const std::vector<WeightGroup>& groups);
  // The whole model with these schemes, against the source.
  Result<DriftSummary> drift_of(const std::map<std::string, std::string>& schemes);

 private:
  explicit CalibrationRun(const CalibrationInput& input);
  friend class LayerTrials;

  // An adapted graph, its weights fetched layer by layer.
  struct Trial {
    std::unique_ptr<Executor> executor;
    std::unique_ptr<Sweep> sweep;
  };
  Result<Trial> trial(const std::map<std::string, std::string>& schemes);
  Status run_part(Sweep& sweep, size_t part, ResidualStream& stream);
  // Both sweeps through the last part, each from its own stream.
  Result<DriftSummary> compare_tails(Sweep& found, const ResidualStream& found_stream);
  ExecutorOptions executor_options() const;

  CalibrationInput in_;
  std::shared_ptr<ThreadPool> pool_;
  SharedStore store_;
  std::unique_ptr<Executor> source_;
  std::unique_ptr<Sweep> sweep_;  // of the source
  ResidualStream stream_;         // of the source, after its last layer once measured
};

}  // namespace fettle
