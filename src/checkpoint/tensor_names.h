// Tensors asked for by their Hugging Face name, found under that name or under GGUF's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "checkpoint/checkpoint.h"

namespace fettle {

// A stored tensor, or one matrix of a stored stack: the arguments of Checkpoint::matrix().
struct TensorRef {
  std::string name;
  int64_t stack_index = 0;
};

// "model.layers.3.mlp.experts.5.up_proj.weight" -> {"blk.3.ffn_up_exps.weight", 5}; nullopt where GGUF has no
// such tensor.
std::optional<TensorRef> gguf_tensor_name(std::string_view hf_name);

// The tensor that the checkpoint holds under either spelling; the error names both. The stack index is within
// the stack.
Result<TensorRef> resolve_tensor(const Checkpoint& checkpoint, std::string_view hf_name);

}  // namespace fettle
