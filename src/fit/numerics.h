// How a checkpoint's numbers are computed with: in as wide numbers as there are, or with the roundings of the
// makers' own kernels.
#pragma once

#include <optional>
#include <string>

#include "arch/arch.h"

namespace fettle {

struct Numerics {
  // What inputs of e4m3 and e2m1 weights are rounded to: "float": not at all; "e4m3": with scales as the
  // configuration says; "e4m3-fp32", "e4m3-ue8m0".
  std::string activations = "float";
  bool simulate_rounding = false;  // BuildOptions::simulate_rounding
};

// "e4m3" settled by the configuration. A model without weights of these types: kUsage.
Result<std::string> settle_activations(const Checkpoint& checkpoint, const Graph& graph,
                                       const std::string& activations);
// Of a settled one; absent for "float".
std::optional<Form> activation_form(const std::string& settled);

}  // namespace fettle
