#include <algorithm>

#include "text/text.h"

namespace fettle {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
constexpr std::string_view kSpace = " \t\r\n";

// The length of the longest end of `text` that is a beginning of `tag`.
size_t open_end(std::string_view text, std::string_view tag) {
  for (size_t size = std::min(text.size(), tag.size() - 1); size > 0; --size) {
    if (tag.starts_with(text.substr(text.size() - size))) return size;
  }
  return 0;
}

}  // namespace

// Only a tag that ends the prompt opens the answer: one inside an earlier message is somebody's text.
ReasoningSplitter::ReasoningSplitter(std::string_view prompt) {
  const size_t end = prompt.find_last_not_of(kSpace);
  inside_ = end != std::string_view::npos && prompt.substr(0, end + 1).ends_with(kOpen);
}

// Reasoning opens only before the first visible text of the answer; after that, tags are the answer's own
// text.
ReasoningSplitter::Piece ReasoningSplitter::push(std::string_view text) {
  Piece piece;
  held_ += text;
  while (!held_.empty()) {
    if (inside_) {
      const size_t close = held_.find(kClose);
      if (close == std::string::npos) {
        const size_t decided = held_.size() - open_end(held_, kClose);
        piece.reasoning += held_.substr(0, decided);
        held_.erase(0, decided);
        break;
      }
      piece.reasoning += held_.substr(0, close);
      held_.erase(0, close + kClose.size());
      inside_ = false;
    } else if (seen_content_) {
      piece.content += held_;
      held_.clear();
    } else {
      const size_t space = std::min(held_.find_first_not_of(kSpace), held_.size());
      piece.content += held_.substr(0, space);
      held_.erase(0, space);
      if (held_.starts_with(kOpen)) {
        held_.erase(0, kOpen.size());
        inside_ = true;
      } else if (kOpen.starts_with(held_)) {
        break;
      } else {
        seen_content_ = true;
      }
    }
  }
  return piece;
}

ReasoningSplitter::Piece ReasoningSplitter::flush() {
  Piece piece;
  (inside_ ? piece.reasoning : piece.content) = std::move(held_);
  held_.clear();
  return piece;
}

}  // namespace fettle
