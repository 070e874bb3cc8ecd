// Tables of whole numbers (which expert serves which token) as matrices of fp32 that hold them exactly,
// converted when first asked for and kept as long as the checkpoint is open.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace fettle {

bool holds_whole_numbers(const StoredTensor& tensor);  // I32 or I64

class WholeNumbers {
 public:
  // `place` names the tensor in errors: more than two dimensions, or a number that fp32 cannot hold.
  Result<MatrixView> matrix(const StoredTensor& tensor, const std::string& place);

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const std::vector<float>>> converted_;
};

}  // namespace fettle
