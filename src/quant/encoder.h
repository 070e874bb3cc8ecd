// What a scheme's file gives to encode_row: one Encoder a scheme, listed in list.inc. encode.cc has checked
// the input before an Encoder sees it: the row fits the scheme, every weight is finite, every importance is
// finite and not negative.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "quant/encode.h"

namespace fettle::quant {

struct EncodeInput {
  const float* weights;     // [columns]
  const float* importance;  // [columns] or null
  int64_t columns;
  EncodeMethod method;
  float magnitude;  // the largest |weight|
};

struct Encoder {
  Scheme scheme;
  Status (*encode)(const EncodeInput& input, std::byte* out);
  // Half the largest gap between neighbouring codes of a coded row.
  float (*half_step)(const std::byte* row, int64_t columns);
};

#define FETTLE_ENCODER(scheme, name)                    \
  Status encode_##name(const EncodeInput&, std::byte*); \
  float half_step_##name(const std::byte*, int64_t);
#include "quant/list.inc"
#undef FETTLE_ENCODER

}  // namespace fettle::quant
