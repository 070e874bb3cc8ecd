// What this processor can execute, as levels that contain each other's needs; kernels are listed with the
// level they need.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fettle {

// Ordered: a machine of one level can run the kernels of every lower level of the same family.
enum class Isa : int {
  kScalar = 0,      // plain C++: the reference kernels
  kAvx2 = 1,        // AVX2, FMA, F16C
  kAvx512 = 2,      // + AVX-512 F, BW, VL, DQ
  kAvx512Vnni = 3,  // + AVX512-VNNI
  kAvx512Bf16 = 4,  // + AVX512-BF16
};

std::string_view isa_name(Isa isa);  // "scalar", "avx2", "avx512", "avx512-vnni", "avx512-bf16"
Result<Isa> parse_isa(std::string_view name);
Isa detect_isa();  // the highest level of this machine (CPUID and OS support)

}  // namespace fettle
