// Decoding of coded rows, one function a scheme; the table in scheme.cc is the only user. The formulas are
// ggml's block formats and fettle's own (scheme.h); products are formed in fp32, block scale times sub-scale
// first.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fettle::decode {

void f32(const std::byte* row, int64_t k, float* out);
void f16(const std::byte* row, int64_t k, float* out);
void bf16(const std::byte* row, int64_t k, float* out);
void q4_0(const std::byte* row, int64_t k, float* out);
void q4_1(const std::byte* row, int64_t k, float* out);
void q5_0(const std::byte* row, int64_t k, float* out);
void q5_1(const std::byte* row, int64_t k, float* out);
void q8_0(const std::byte* row, int64_t k, float* out);
void q2_k(const std::byte* row, int64_t k, float* out);
void q3_k(const std::byte* row, int64_t k, float* out);
void q4_k(const std::byte* row, int64_t k, float* out);
void q5_k(const std::byte* row, int64_t k, float* out);
void q6_k(const std::byte* row, int64_t k, float* out);
void iq4_nl(const std::byte* row, int64_t k, float* out);
void mxfp4(const std::byte* row, int64_t k, float* out);
void i8c(const std::byte* row, int64_t k, float* out);
void i4g32(const std::byte* row, int64_t k, float* out);
void i4g32z(const std::byte* row, int64_t k, float* out);
void f8b128(const std::byte* row, int64_t k, float* out);

}  // namespace fettle::decode
