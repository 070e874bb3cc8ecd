// choose-cache: the element type in which keys and values are kept. Codes of 8 bits are for latents.
#include "kernels/attention/layout.h"
#include "passes/pass.h"

namespace fettle {

Graph choose_cache(const Graph& graph, const PassOptions& options, PassNotes* notes) {
  const auto type = parse_kv_type(options.kv_type);
  Graph out = graph;
  int64_t refused = 0;
  for (CacheSpec& cache : out.caches) {
    if (cache.kind == CacheKind::kRows) continue;
    const bool fits = !type.ok() || check_kv_shape({*type, cache.kv_heads, cache.k_dim, cache.v_dim,
                                                    cache.kind == CacheKind::kLatent})
                                        .ok();
    cache.type = fits ? options.kv_type : "bf16";
    refused += fits ? 0 : 1;
  }
  if (refused > 0 && notes)
    notes->push_back(
        fmt::format("{} of {} caches stay bf16: {} is for latents of one head and an even number of columns",
                    refused, out.caches.size(), options.kv_type));
  return out;
}

}  // namespace fettle
