#include "fit/numerics.h"

#include <algorithm>

#include "tensor/float_groups.h"

namespace fettle {

namespace {

Result<std::string> scales_of(const Checkpoint& checkpoint) {
  const JsonReader config(checkpoint.config(), checkpoint.files().front());
  if (!config.has("quantization_config")) return std::string("fp32");
  TRY(const JsonReader quantisation, config.object("quantization_config"));
  TRY(const std::string format, quantisation.string_or("scale_fmt", "fp32"));
  if (!parse_scale_format(format))
    return unsupported("{}: scale_fmt is '{}'; expected ue8m0", quantisation.what(), format);
  return format;
}

bool has_small_floats(const Graph& graph) {
  return std::any_of(graph.weights.begin(), graph.weights.end(), [](const Weight& w) {
    return w.expr->scheme == Scheme::kF8B128 || w.expr->scheme == Scheme::kMXFP4;
  });
}

}  // namespace

Result<std::string> settle_activations(const Checkpoint& checkpoint, const Graph& graph,
                                       const std::string& activations) {
  if (activations == "float") return activations;
  if (activations != "e4m3" && !activation_form(activations))
    return make_error(Code::kUsage,
                      "activations '{}' are unknown; expected float, e4m3, e4m3-fp32 or e4m3-ue8m0",
                      activations);
  if (!has_small_floats(graph))
    return make_error(Code::kUsage, "'{}' has no weights in e4m3 or e2m1 whose inputs would be rounded to {}",
                      checkpoint.path(), activations);
  if (activations != "e4m3") return activations;
  TRY(const std::string format, scales_of(checkpoint));
  return "e4m3-" + format;
}

std::optional<Form> activation_form(const std::string& settled) {
  if (settled == "e4m3-fp32") return Form::kF8G128;
  if (settled == "e4m3-ue8m0") return Form::kF8G128Ue8m0;
  return std::nullopt;
}

}  // namespace fettle
