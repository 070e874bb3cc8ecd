// The texts that are part of the program (quality/text/).
#pragma once

#include <string_view>

namespace fettle {

std::string_view evaluation_text();
std::string_view calibration_text();

}  // namespace fettle
