// Working memory of a kernel call: one block a thread, kept between calls, 64-byte aligned, contents
// undefined. Its size is bounded by the kernels' own chunking (a few MiB), not by the number of tokens.
// Private to this folder.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fettle::linear {

std::byte* thread_scratch(int64_t bytes);  // valid until the thread's next call

}  // namespace fettle::linear
