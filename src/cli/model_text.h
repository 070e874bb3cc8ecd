// The text files of a MODEL, for the verbs that need nothing else of it.
#pragma once

#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "fit/open_model.h"
#include "text/text.h"

namespace fettle {

// A directory that holds only a tokenizer's files is enough.
inline Result<TextFiles> model_text_files(const std::string& path) {
  const bool bare =
      path_exists(join_path(path, "tokenizer.json")) && !path_exists(join_path(path, "config.json"));
  return bare && !is_artifact(path) ? text_files_of_directory(path) : open_text_files(path);
}

}  // namespace fettle
