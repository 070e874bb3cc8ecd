// #include "kernels/target_begin.h" after defining FETTLE_TARGET as a string of instruction sets: every
// function until "kernels/target_end.h" is compiled for them, whatever the command line says. Include all
// other headers before it, so that no inline function of the standard library is emitted with instructions
// that an older machine lacks.
#if defined(__clang__)
#define FETTLE_TARGET_PRAGMA(x) _Pragma(#x)
#define FETTLE_TARGET_PUSH(isa) \
  FETTLE_TARGET_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
FETTLE_TARGET_PUSH(FETTLE_TARGET)
#else
#define FETTLE_TARGET_PRAGMA(x) _Pragma(#x)
#define FETTLE_TARGET_PUSH(isa) FETTLE_TARGET_PRAGMA(GCC target(isa))
#pragma GCC push_options
FETTLE_TARGET_PUSH(FETTLE_TARGET)
#endif
