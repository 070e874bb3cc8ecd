#include "quality/builtin_text.h"

// FETTLE_TEXT_DIR is given by this folder's CMakeLists.txt, which also makes this file depend on the texts.
#define EMBED(symbol, file)                                                                                  \
  asm(".section .rodata\n.balign 16\n" #symbol "_begin:\n.incbin \"" FETTLE_TEXT_DIR "/" file "\"\n" #symbol \
      "_end:\n.previous\n");                                                                                 \
  extern "C" const char symbol##_begin[];                                                                    \
  extern "C" const char symbol##_end[];

EMBED(fettle_evaluation_text, "evaluation.txt")
EMBED(fettle_calibration_text, "calibration.txt")

namespace fettle {

namespace {
std::string_view between(const char* begin, const char* end) {
  return {begin, static_cast<size_t>(end - begin)};
}
}  // namespace

std::string_view evaluation_text() {
  return between(fettle_evaluation_text_begin, fettle_evaluation_text_end);
}
std::string_view calibration_text() {
  return between(fettle_calibration_text_begin, fettle_calibration_text_end);
}

}  // namespace fettle
