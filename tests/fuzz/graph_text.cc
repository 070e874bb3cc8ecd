// Hostile graph text: what parses must verify, print, and parse back to the same print.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "graph/text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fettle;
  const auto graph = parse_graph({reinterpret_cast<const char*>(data), size}, "input");
  if (!graph.ok()) return 0;
  const Status verified = verify_graph(*graph);
  CHECK(verified.ok(), "{}", verified.error().message());
  CHECK(graph->parameters() >= 0 && graph->parameters() <= kMostParameters, "{}", graph->parameters());
  const std::string text = print_graph(*graph);
  const auto again = parse_graph(text, "printed");
  CHECK(again.ok(), "{}\n{}", again.error().message(), text);
  CHECK(print_graph(*again) == text, "{}\n{}", text, print_graph(*again));
  return 0;
}
