// choose-cache: the element type in which K and V are kept.
#include "passes/pass.h"

namespace fettle {

Graph choose_cache(const Graph& graph, const PassOptions& options, PassNotes*) {
  Graph out = graph;
  for (CacheSpec& cache : out.caches)
    if (cache.kind != CacheKind::kRows) cache.type = options.kv_type;
  return out;
}

}  // namespace fettle
