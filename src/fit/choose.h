// Which scheme each group of weights gets: measured sensitivity on calibration text, measured kernel speed, a
// budget.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "fit/rates.h"
#include "fit/sensitivity.h"
#include "quality/certificate.h"

namespace fettle {

enum class Objective { kLatency, kThroughput, kMemory };
Result<Objective> parse_objective(const std::string& name);
std::string_view objective_name(Objective objective);

// "bf16", "i8c", ..., and the everyday names int8, int4, int4-zero-point.
Result<std::string> parse_scheme_choice(const std::string& name);

struct ChooseInput {
  const CalibrationInput& calibration;
  const LocalTarget& target;
  Objective objective;
  Budget budget;
};
struct Choice {
  std::map<std::string, std::string> schemes;  // weight -> scheme
  std::vector<Sensitivity> sensitivity;
  DriftSummary reached;       // of the whole choice, on calibration text
  bool within_budget = true;  // on calibration text; the certificate decides on held-out text
};
Result<Choice> choose_by_budget(const ChooseInput& input);

// The same scheme for every group; carried block formats change too, as it was asked for.
std::map<std::string, std::string> choose_uniform(const Graph& source, const std::string& scheme);

}  // namespace fettle
