// The plain rule gives the bytes of ggml's reference quantisers.
#include <gtest/gtest.h>

#include <cstring>

#include "base/file.h"
#include "base/json.h"
#include "quant/rows.h"

namespace fettle {
namespace {

struct Reference {
  std::string file;
  Json header;

  std::string_view tensor(const std::string& name) const {
    const Json& offsets = header.at(name).at("data_offsets");
    const size_t begin = offsets[0].get<size_t>(), end = offsets[1].get<size_t>();
    uint64_t header_size = 0;
    std::memcpy(&header_size, file.data(), sizeof header_size);
    return std::string_view(file).substr(8 + header_size + begin, end - begin);
  }
};

Reference load_reference() {
  Reference reference;
  reference.file = read_file(FETTLE_TEST_DATA "/gguf_blocks.safetensors").value();
  uint64_t header_size = 0;
  std::memcpy(&header_size, reference.file.data(), sizeof header_size);
  reference.header = parse_json(std::string_view(reference.file).substr(8, header_size), "header").value();
  return reference;
}

TEST(Reference, AbsMaxBytesAreEqual) {
  const Reference reference = load_reference();
  const std::string_view input = reference.tensor("quantize/input");
  constexpr size_t kRows = 16, kColumns = 256;
  ASSERT_EQ(input.size(), kRows * kColumns * sizeof(float));
  const std::pair<const char*, Scheme> cases[] = {{"Q4_0", Scheme::kQ4_0},
                                                  {"Q4_1", Scheme::kQ4_1},
                                                  {"Q5_0", Scheme::kQ5_0},
                                                  {"Q5_1", Scheme::kQ5_1},
                                                  {"Q8_0", Scheme::kQ8_0}};
  for (const auto& [name, scheme] : cases) {
    const std::string_view expected = reference.tensor(std::string("quantize/") + name);
    const auto stride = static_cast<size_t>(row_bytes(scheme, kColumns));
    ASSERT_EQ(expected.size(), kRows * stride);
    size_t different = 0;
    for (size_t r = 0; r < kRows; ++r) {
      std::vector<float> row(kColumns);
      std::memcpy(row.data(), input.data() + r * kColumns * sizeof(float), kColumns * sizeof(float));
      const auto bytes = encode(scheme, EncodeMethod::kAbsMax, row);
      ASSERT_EQ(bytes.size(), stride);
      for (size_t b = 0; b < stride; ++b)
        different += bytes[b] != static_cast<std::byte>(expected[r * stride + b]);
    }
    EXPECT_EQ(different, 0u) << name << ": bytes that differ, of " << expected.size();
  }
}

}  // namespace
}  // namespace fettle
