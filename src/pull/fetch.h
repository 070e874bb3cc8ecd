// Downloads files into a folder: several at once, each resumed where an earlier attempt ended, each checked
// for size and digest before it gets its name. The first failure ends the others; what they have stays for
// the next time.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "pull/http.h"
#include "pull/listing.h"

namespace fettle {

struct StoredFile {
  std::string name;
  uint64_t size = 0;
  std::string sha256;
};

struct FetchOptions {
  std::string folder;
  std::string label;  // of the progress line
  std::vector<std::string> headers;
  bool same_revision =
      false;  // files already there under their names, which no digest vouches for, are of this revision
  int parallel = 1;
  int retries = 0;
  const PullTiming* timing = nullptr;
};

// In the order of `files`.
Result<std::vector<StoredFile>> fetch_files(const std::vector<RemoteFile>& files,
                                            const FetchOptions& options);

// An error unless the disk of `folder` has room for `needed` more bytes.
Status check_free_space(const std::string& folder, uint64_t needed);
// A name with folders in it: makes them.
Result<std::string> prepare_place(const std::string& folder, const std::string& name);

}  // namespace fettle
