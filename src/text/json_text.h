// JSON as Python's json module writes it (", " and ": ", characters as they are), which is what models were
// trained on; and the quoting of one string, whole or piece by piece. For this folder.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace fettle {

std::string python_json(const Json& value);

// `text` as it stands between the quotes of a JSON string. Any split of a text at whole characters gives the
// same.
std::string json_escaped(std::string_view text);
std::string json_string(std::string_view text);
std::string ascii_json_string(std::string_view text);  // other characters as \uXXXX

}  // namespace fettle
