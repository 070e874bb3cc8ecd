// Ends what kernels/target_begin.h began.
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef FETTLE_TARGET
#undef FETTLE_TARGET_PRAGMA
#undef FETTLE_TARGET_PUSH
