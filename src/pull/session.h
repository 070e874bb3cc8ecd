// pull() with its waiting times in the open, so that tests need not wait as long as people do.
#pragma once

#include <string>

#include "pull/http.h"
#include "pull/pull.h"

namespace fettle {

Result<PulledModel> pull_with(const std::string& spec, const PullOptions& options, const PullTiming& timing);

}  // namespace fettle
