// The Hugging Face directory form of a checkpoint: config.json beside model.safetensors, or beside an index
// and its shards.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "base/result.h"
#include "checkpoint/checkpoint.h"

namespace fettle {

Result<Checkpoint> open_hugging_face(const std::string& directory);

// model.safetensors.index.json's weight_map: tensor -> file name. Every file name is a plain name inside the
// directory.
Result<std::unordered_map<std::string, std::string>> parse_shard_index(std::string_view text,
                                                                       const std::string& what);

}  // namespace fettle
