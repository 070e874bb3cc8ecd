#include "kernels/cpu_features.h"

#include <array>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fettle {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"scalar", "avx2", "avx512", "avx512-vnni", "avx512-bf16"};

#if defined(__x86_64__)
constexpr bool bit(uint32_t word, int index) { return ((word >> index) & 1u) != 0; }

// The register states that the operating system saves: bits 1, 2 for ymm; 5, 6, 7 in addition for zmm and
// masks.
uint64_t saved_states() {
  uint32_t low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

// Bit numbers: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A, CPUID.
Isa detect_x86() {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return Isa::kScalar;
  const bool fma = bit(c, 12), os_saves = bit(c, 27), f16c = bit(c, 29);
  if (!fma || !f16c || !os_saves || (saved_states() & 0x06) != 0x06) return Isa::kScalar;

  uint32_t b7 = 0, c7 = 0;
  if (__get_cpuid_count(7, 0, &a, &b7, &c7, &d) == 0 || !bit(b7, 5)) return Isa::kScalar;
  const uint32_t subleafs = a;
  const bool f = bit(b7, 16), dq = bit(b7, 17), bw = bit(b7, 30), vl = bit(b7, 31), vnni = bit(c7, 11);
  if (!f || !dq || !bw || !vl || (saved_states() & 0xe6) != 0xe6) return Isa::kAvx2;
  if (!vnni) return Isa::kAvx512;

  if (subleafs < 1 || __get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || !bit(a, 5)) return Isa::kAvx512Vnni;
  return Isa::kAvx512Bf16;
}
#endif

}  // namespace

std::string_view isa_name(Isa isa) { return kNames[static_cast<size_t>(isa)]; }

Result<Isa> parse_isa(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return static_cast<Isa>(i);
  return make_error(
      Code::kUsage,
      "instruction set '{}' is unknown; expected scalar, avx2, avx512, avx512-vnni or avx512-bf16", name);
}

Isa detect_isa() {
#if defined(__x86_64__)
  static const Isa isa = detect_x86();
  return isa;
#else
  return Isa::kScalar;
#endif
}

}  // namespace fettle
