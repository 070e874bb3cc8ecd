// The two hubs' listings: what a repository holds at a revision, with sizes and digests.
#pragma once

#include <string>

#include "base/result.h"
#include "pull/http.h"
#include "pull/listing.h"

namespace fettle {

enum class HubKind { kHuggingFace, kModelScope };

struct HubRequest {
  HubKind kind;
  std::string base_url;  // without a slash at the end
  std::string id;        // ORG/NAME, checked
  std::string revision;  // checked
  std::string token;     // may be empty
  int retries;
  const PullTiming* timing;
};

// The headers that identify the caller to the hub; refuses to send a token unencrypted to another machine.
Result<std::vector<std::string>> hub_headers(const HubRequest& request);
Result<Listing> list_hub(const HubRequest& request);

// The answers' texts, apart from how they were fetched.
Result<Listing> parse_hugging_face(const std::string& text, const HubRequest& request);
Result<Listing> parse_model_scope(const std::string& text, const HubRequest& request);

}  // namespace fettle
