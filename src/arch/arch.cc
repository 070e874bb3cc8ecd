#include "arch/arch.h"

#include <algorithm>

#include "base/log.h"

namespace fettle {

#define ARCHITECTURE(name, build)                                                   \
  Result<BuiltGraph> build(const Checkpoint& checkpoint, const ModelFields& fields, \
                           const BuildOptions& options);
#include "arch/list.inc"
#undef ARCHITECTURE

namespace {

struct Architecture {
  std::string_view name;
  Result<BuiltGraph> (*build)(const Checkpoint&, const ModelFields&, const BuildOptions&);
};
constexpr Architecture kArchitectures[] = {
#define ARCHITECTURE(name, build) {name, build},
#include "arch/list.inc"
#undef ARCHITECTURE
};

bool simulates(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(),
                     [](const Node& node) { return node.op == Op::kSimulate; });
}

}  // namespace

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Architecture& a : kArchitectures) names.emplace_back(a.name);
  return names;
}

Result<BuiltGraph> build_graph(const Checkpoint& checkpoint, const BuildOptions& options) {
  TRY(const ModelFields fields, ModelFields::of(checkpoint));
  for (const Architecture& a : kArchitectures) {
    if (a.name != fields.architecture()) continue;
    TRY(BuiltGraph built, a.build(checkpoint, fields, options));
    if (options.simulate_rounding && !simulates(built.graph))
      return unsupported("{}: architecture '{}' was not trained with a rounding that could be simulated",
                         fields.file(), fields.architecture());
    built.unread_fields = fields.unread();
    return built;
  }
  std::string known;
  for (const Architecture& a : kArchitectures) known += (known.empty() ? "" : ", ") + std::string(a.name);
  return unsupported("{}: architecture '{}' is not known; known are: {}", fields.file(),
                     fields.architecture(), known);
}

void warn_of_unexpected(const BuiltGraph& built, const Checkpoint& checkpoint) {
  for (const std::string& field : built.unread_fields)
    log_warning("{}: field '{}' of the configuration is not known and has no effect", checkpoint.path(),
                field);
  if (built.unexpected.empty()) return;
  log_warning(
      "{}: {} of {} tensors are not used, '{}' among them; is the configuration that of these weights?",
      checkpoint.path(), built.unexpected.size(), checkpoint.tensors().size(), built.unexpected[0]);
}

}  // namespace fettle
