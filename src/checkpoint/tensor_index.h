// name -> position in a list of tensors; a name that occurs twice is an error naming `what`.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace fettle {

Result<std::unordered_map<std::string, size_t>> index_tensors(const std::vector<StoredTensor>& tensors,
                                                              const std::string& what);

}  // namespace fettle
