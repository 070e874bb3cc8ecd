#include "fit/rates.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"
#include "passes/pass.h"
#include "runtime/step.h"

namespace fettle {

namespace {

// Large enough to leave the caches at one row (72 MB in 4 bits), small enough to measure every kernel in
// seconds.
constexpr int64_t kRows = 32768, kCols = 4096;

Result<LocalTarget> parse_local(const Json& json, const std::string& what) {
  const JsonReader in(json, what);
  LocalTarget target;
  TRY(const JsonReader rates, in.object("rates"));
  TRY(target.rates, rates_from_json(rates.json(), what + ": rates"));
  if (!json.contains("kernels") || !json["kernels"].is_array())
    return bad_input("{}: field 'kernels' must be a list", what);
  for (const Json& entry : json["kernels"]) {
    const JsonReader k(entry, what + ": kernels");
    MeasuredKernel kernel;
    TRY(kernel.kernel, k.string("kernel"));
    TRY(kernel.scheme, k.string("scheme"));
    TRY(kernel.activation, k.string("activation"));
    TRY(kernel.read_gbs, k.number("read_gbs"));
    TRY(kernel.gops, k.number("gops"));
    target.kernels.push_back(std::move(kernel));
  }
  return target;
}

LocalTarget measure(int threads, Isa isa) {
  ThreadPool pool(threads);
  Progress progress("measuring this machine", kSchemeCount + 4);
  LocalTarget target;
  const CpuProbe probe = probe_cpu(pool, isa);
  progress.add(4);
  target.rates = {probe.model,         std::string(isa_name(isa)), pool.size(),
                  probe.bandwidth_gbs, probe.bandwidth_1_gbs,      probe.int8_gops,
                  probe.bf16_gflops,   probe.f32_gflops,           probe.l2_bytes,
                  probe.l3_bytes,      probe.memory_bytes};
  for (const SchemeInfo& info : all_schemes()) {
    progress.add(1);
    const Activation activation = activation_of(input_form(info.scheme));
    const LinearKernel* kernel = find_linear_kernel(info.scheme, activation, isa);
    if (!kernel || kernel->isa == Isa::kScalar) continue;
    const KernelRate rate = measure_kernel(*kernel, pool, kRows, kCols);
    target.kernels.push_back({std::string(kernel->name), std::string(info.name),
                              std::string(activation_name(activation)), rate.read_gbs, rate.gops});
  }
  return target;
}

}  // namespace

const MeasuredKernel* LocalTarget::find(const std::string& scheme) const {
  for (const MeasuredKernel& k : kernels)
    if (k.scheme == scheme) return &k;
  return nullptr;
}

Json local_target_to_json(const LocalTarget& target) {
  Json json = {{"rates", rates_to_json(target.rates)}, {"kernels", Json::array()}};
  for (const MeasuredKernel& k : target.kernels)
    json["kernels"].push_back({{"kernel", k.kernel},
                               {"scheme", k.scheme},
                               {"activation", k.activation},
                               {"read_gbs", k.read_gbs},
                               {"gops", k.gops}});
  return json;
}

Result<LocalTarget> local_target(int threads, Isa isa, const std::string& cache_directory,
                                 bool measure_again) {
  const int used = threads > 0 ? threads : ThreadPool::available_processors();
  const std::string directory = join_path(cache_directory, "local");
  const std::string key = fmt::format("v2 {} {} {}", cpu_identity(), isa_name(isa), used);
  const std::string path = join_path(directory, sha256_hex(key).substr(0, 16) + ".json");
  if (!measure_again && path_exists(path)) {
    auto json = read_json_file(path);
    auto kept = json.ok() ? parse_local(*json, path) : Result<LocalTarget>(json.error());
    if (kept.ok()) return kept;
    log_warning("{}; measuring again", kept.error().message());
  }
  LocalTarget target = measure(used, isa);
  const Status made = make_directories(directory);
  const Status written =
      made.ok() ? write_file_atomic(path, dump_json(local_target_to_json(target)) + "\n") : made;
  if (!written.ok()) log_warning("the measurement is not kept: {}", written.error().message());
  return target;
}

}  // namespace fettle
