// The C border of native/text in C++ terms: results that free themselves, statuses as errors. For the .cc
// files of this folder.
#pragma once

#include <fettle_text.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fettle::native {

inline const uint8_t* data(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

inline std::string take(fettle_text_bytes bytes) {
  std::string text = bytes.data ? std::string(reinterpret_cast<const char*>(bytes.data), bytes.size) : "";
  fettle_text_bytes_free(bytes);
  return text;
}

inline std::vector<int32_t> take(fettle_text_ids ids) {
  std::vector<int32_t> taken(ids.data, ids.data + ids.size);
  fettle_text_ids_free(ids);
  return taken;
}

inline Error to_error(int32_t status, fettle_text_bytes message) {
  const Code code = status == FETTLE_TEXT_BAD_INPUT     ? Code::kBadInput
                    : status == FETTLE_TEXT_UNSUPPORTED ? Code::kUnsupported
                    : status == FETTLE_TEXT_RESOURCE    ? Code::kResource
                                                        : Code::kInternal;
  return Error(code, take(message));
}

struct Free {
  void operator()(fettle_tokenizer* tokenizer) const { fettle_tokenizer_free(tokenizer); }
  void operator()(fettle_template* chat_template) const { fettle_template_free(chat_template); }
};
using TokenizerHandle = std::unique_ptr<fettle_tokenizer, Free>;
using TemplateHandle = std::unique_ptr<fettle_template, Free>;

}  // namespace fettle::native
