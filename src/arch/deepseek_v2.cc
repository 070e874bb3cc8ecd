// DeepSeek-V2 and V2-Lite (arXiv 2405.04434): latent attention, softmax router over all experts or within the
// groups whose best expert scores highest, weights not renormalised but multiplied by the factor, shared
// experts as one MLP.
#include "arch/latent_decoder.h"

namespace fettle {

Result<BuiltGraph> build_deepseek_v2(const Checkpoint& checkpoint, const ModelFields& fields,
                                     const BuildOptions&) {
  TRY(LatentDecoder model, read_latent_decoder(checkpoint, fields));
  TRY(const std::string method, fields.string_or("topk_method", "greedy"));
  if (method == "greedy")
    model.moe.groups = model.moe.kept_groups = 1;
  else if (method != "group_limited_greedy")
    return unsupported("{}: topk_method is '{}'; expected greedy or group_limited_greedy", fields.file(),
                       method);
  TRY(const std::string score, fields.string_or("scoring_func", "softmax"));
  if (score != "softmax")
    return unsupported("{}: scoring_func is '{}'; expected softmax", fields.file(), score);
  TRY(const bool normalise, fields.boolean_or("norm_topk_prob", false));
  if (normalise)
    return unsupported(
        "{}: norm_topk_prob is true, which implementations of this architecture understand differently; "
        "expected false, as in every released model",
        fields.file());
  return build_latent_decoder(checkpoint, fields, model);
}

}  // namespace fettle
