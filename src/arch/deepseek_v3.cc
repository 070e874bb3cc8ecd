// DeepSeek-V3, R1 and V3.1 (arXiv 2412.19437): latent attention; sigmoid router that chooses by score + bias
// within the groups whose two best experts sum highest, and weighs by the score, renormalised, times the
// factor.
#include "arch/latent_decoder.h"

namespace fettle {

Result<LatentDecoder> read_sigmoid_latent_decoder(const Checkpoint& checkpoint, const ModelFields& fields) {
  TRY(LatentDecoder model, read_latent_decoder(checkpoint, fields));
  TRY(const std::string method, fields.string_or("topk_method", "noaux_tc"));
  TRY(const std::string score, fields.string_or("scoring_func", "sigmoid"));
  if (method != "noaux_tc" || score != "sigmoid")
    return unsupported("{}: topk_method '{}' with scoring_func '{}'; expected noaux_tc with sigmoid",
                       fields.file(), method, score);
  TRY(model.moe.normalise, fields.boolean_or("norm_topk_prob", true));
  model.moe.score = "sigmoid";
  model.moe.rank = "top2";
  model.moe.choice_bias = true;
  return model;
}

Result<BuiltGraph> build_deepseek_v3(const Checkpoint& checkpoint, const ModelFields& fields,
                                     const BuildOptions&) {
  TRY(const LatentDecoder model, read_sigmoid_latent_decoder(checkpoint, fields));
  return build_latent_decoder(checkpoint, fields, model);
}

}  // namespace fettle
