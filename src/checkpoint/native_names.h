// Names that makers give their tensors where the Hugging Face library, which architecture files speak, has
// others: one table, and the mixture of both that the library writes when it saves such a model.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fettle {

// Other names under which a file may hold the tensor, most usual first; none for most tensors.
std::vector<std::string> native_tensor_names(std::string_view hf_name);

}  // namespace fettle
