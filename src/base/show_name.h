// Names out of files, made fit for an error message: quoted, control characters escaped, cut when long.
#pragma once

#include <string>
#include <string_view>

namespace fettle {

std::string show_name(std::string_view untrusted_name);

}  // namespace fettle
