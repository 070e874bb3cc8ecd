// What the decoders with latent attention and a mixture of experts share: reading their configuration, and
// the layer.
#pragma once

#include "arch/decoder.h"

namespace fettle {

struct LatentDecoder {
  DecoderConfig decoder;
  DecoderBuilder::LatentAttentionOptions attention;
  DecoderBuilder::MoeOptions moe;  // without what the router of the architecture decides
  int64_t dense_layers, moe_every;
};
Result<LatentDecoder> read_latent_decoder(const Checkpoint& checkpoint, const ModelFields& fields);

// With the router that V3 and its successors share.
Result<LatentDecoder> read_sigmoid_latent_decoder(const Checkpoint& checkpoint, const ModelFields& fields);

Result<BuiltGraph> build_latent_decoder(const Checkpoint& checkpoint, const ModelFields& fields,
                                        const LatentDecoder& model);

}  // namespace fettle
