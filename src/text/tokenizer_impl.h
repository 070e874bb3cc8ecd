// What Tokenizer holds; StreamDecoder reads it too.
#pragma once

#include <optional>
#include <vector>

#include "text/native.h"
#include "text/text.h"

namespace fettle {

struct Tokenizer::Impl {
  native::TokenizerHandle handle;
  fettle_tokenizer_info info{};
  std::optional<int32_t> bos, eos;
  // The file's own post-processor does not add them, but tokenizer_config.json asks for them.
  bool prepend_bos = false, append_eos = false;
  std::vector<int32_t> end_tokens;
};

}  // namespace fettle
