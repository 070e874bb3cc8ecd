// Tool calls between special tokens, arguments as JSON:
//   BEGIN_CALLS ( BEGIN_CALL type SEPARATOR name "\n```json\n" arguments "\n```" END_CALL )* END_CALLS fenced
//   BEGIN_CALLS ( BEGIN_CALL name SEPARATOR arguments END_CALL )* END_CALLS                             bare
// The templates of this family leave BEGIN_CALLS or END_CALLS out in some turns, and models learn that: a
// call may stand alone. For this folder.
#pragma once

#include "text/formats/reply_reader.h"

namespace fettle {

enum class TokenCallStyle { kFenced, kBare };

std::unique_ptr<CallReader> make_token_call_reader(TokenCallStyle style);
std::vector<std::string> token_call_markup();

}  // namespace fettle
