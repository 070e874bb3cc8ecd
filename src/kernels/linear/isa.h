// The entry point of each instruction set, one template each; kernels.inc lists the pairs that are
// instantiated. Private to this folder: everyone else reaches a kernel through the table of linear.h.
#pragma once

#include "kernels/linear/linear.h"

namespace fettle::linear {

template <Scheme kScheme, Activation kActivation>
void scalar(const LinearArgs& args);
template <Scheme kScheme, Activation kActivation>
void avx2(const LinearArgs& args);
template <Scheme kScheme, Activation kActivation>
void avx512(const LinearArgs& args);
template <Scheme kScheme, Activation kActivation>
void avx512_vnni(const LinearArgs& args);
template <Scheme kScheme, Activation kActivation>
void avx512_bf16(const LinearArgs& args);

}  // namespace fettle::linear
