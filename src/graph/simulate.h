// Rounding that some models were trained with, as the graph's `simulate` names it: numbers are rounded and
// restored, so that a run in wider numbers sees what the makers' kernels see.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fettle {

struct Simulation {
  std::string_view name;
  bool hadamard;  // rotated before rounding, and left so
  bool e2m1;      // else e4m3, with scales that are powers of two
  int64_t group;  // lanes under one scale
};
std::optional<Simulation> parse_simulation(std::string_view name);
std::string simulation_names();  // for errors

// x[n] in place.
void simulate_lanes(const Simulation& simulation, float* x, int64_t n);

}  // namespace fettle
