// Weights stored as two tensors, codes and scales, become one:
//   X.weight F8_E4M3 [.., N, K] with X.weight_scale_inv (F32, BF16) or X.scale (F8_E8M0, F32)
//     [.., ceil(N/128), ceil(K/128)]  -> scheme f8b128; in spite of its name the scale is multiplied by
//   X.weight I8 [.., N, K/2] with X.scale F8_E8M0 [.., N, K/32] -> scheme mxfp4, shape [.., N, K]
// The tensors' types decide, not the configuration, which only says the size of the e4m3 blocks. The other
// tensor may lie in another shard. A stack under a plain name has its scales under the name + "_scale_inv".
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "checkpoint/checkpoint.h"

namespace fettle {

// `index`: name -> position in *tensors. True when tensors were joined: the scales' own entries are then gone
// from the list, and the index is stale. `config_path` names the configuration in errors.
Result<bool> join_block_scales(const Json& config, const std::string& config_path,
                               const std::unordered_map<std::string, size_t>& index,
                               std::vector<StoredTensor>* tensors);

}  // namespace fettle
