#include "base/progress.h"
#include "cli/verb.h"
#include "fit/open_model.h"
#include "fit/rates.h"
#include "pull/pull.h"

namespace fettle {

namespace {

std::string local_text(const LocalTarget& target) {
  const Rates& r = target.rates;
  std::string out = fmt::format(
      "local: {}, {} threads, {}\n"
      "  memory       {:.1f} GB/s ({:.1f} on one thread), {} in all     measured / reported by the system\n"
      "  int8         {:.0f} Gop/s                                        measured\n"
      "  bf16         {:.0f} Gflop/s                                      measured\n"
      "  fp32         {:.0f} Gflop/s                                      measured\n"
      "  caches       L2 {} a core, L3 {}                                 reported by the system\n\n"
      "  {:<10} {:<8} {:>12} {:>14}   kernel\n",
      r.cpu, r.threads, r.isa, r.bandwidth_gbs, r.bandwidth_1_gbs,
      format_bytes(static_cast<uint64_t>(r.memory_bytes)), r.int8_gops, r.bf16_gflops, r.f32_gflops,
      format_bytes(static_cast<uint64_t>(r.l2_bytes)), format_bytes(static_cast<uint64_t>(r.l3_bytes)),
      "scheme", "input", "GB/s, 1 row", "Gop/s, 64 rows");
  for (const MeasuredKernel& k : target.kernels)
    out += fmt::format("  {:<10} {:<8} {:>12.1f} {:>14.0f}   {}\n", k.scheme, k.activation, k.read_gbs,
                       k.gops, k.kernel);
  return out;
}

Status run_targets(const std::string& name, bool again, const GlobalOptions& global) {
  if (!name.empty() && name != "local") return unsupported("target '{}' is not known; known is: local", name);
  if (name.empty()) {
    print_text("local    this machine, measured; see: fettle targets local\n");
    return {};
  }
  TRY(const Isa isa, choose_isa(global.isa));
  TRY(const LocalTarget target, local_target(global.threads, isa, default_cache_directory(), again));
  if (global.json)
    print_json(local_target_to_json(target));
  else
    print_text(local_text(target));
  return {};
}

}  // namespace

void declare_targets(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto name = std::make_shared<std::string>();
  auto again = std::make_shared<bool>(false);
  app.add_option("name", *name, "a target");
  app.add_flag("--again", *again, "measure again");
  *action = [name, again, &global] { return run_targets(*name, *again, global); };
}

}  // namespace fettle
