#include "graph/simulate.h"

#include "tensor/float_groups.h"

namespace fettle {

namespace {

constexpr Simulation kSimulations[] = {
    {"e4m3_g64", false, false, 64},
    {"e4m3_g128", false, false, 128},
    {"hadamard_e4m3_g128", true, false, 128},
    {"hadamard_e2m1_g32", true, true, 32},
};

}  // namespace

std::optional<Simulation> parse_simulation(std::string_view name) {
  for (const Simulation& s : kSimulations)
    if (s.name == name) return s;
  return std::nullopt;
}

std::string simulation_names() {
  std::string names;
  for (const Simulation& s : kSimulations) names += (names.empty() ? "" : ", ") + std::string(s.name);
  return names;
}

void simulate_lanes(const Simulation& s, float* x, int64_t n) {
  if (s.hadamard) hadamard_rotate(x, n);
  if (s.e2m1) return round_e2m1_groups(x, n, s.group);
  round_e4m3_groups(x, n, s.group, ScaleFormat::kUe8m0);
}

}  // namespace fettle
