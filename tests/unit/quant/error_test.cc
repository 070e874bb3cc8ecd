// Input that cannot be coded is refused with a message that says where and what to do.
#include <gtest/gtest.h>

#include <limits>

#include "quant/rows.h"

namespace fettle {
namespace {

std::string failure(Scheme scheme, EncodeMethod method, const std::vector<float>& row,
                    const float* importance = nullptr) {
  std::vector<std::byte> out(row.size() * 4 + 64);
  const Status status =
      encode_row(scheme, method, row.data(), importance, static_cast<int64_t>(row.size()), out.data());
  return status.ok() ? "" : status.error().message();
}

TEST(Errors, NonFiniteWeightNamesItsColumn) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const SchemeInfo& info : all_schemes()) {
      if (!can_encode(info.scheme)) continue;
      std::vector<float> row(64, 0.5f);
      row[37] = bad;
      EXPECT_NE(failure(info.scheme, EncodeMethod::kSearch, row).find("column 37"), std::string::npos)
          << info.name;
    }
  }
}

TEST(Errors, BadImportanceNamesItsColumn) {
  const std::vector<float> row(64, 0.5f);
  std::vector<float> importance(64, 1.0f);
  importance[11] = -1;
  EXPECT_NE(failure(Scheme::kI8C, EncodeMethod::kSearch, row, importance.data()).find("column 11"),
            std::string::npos);
  importance[11] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(failure(Scheme::kI8C, EncodeMethod::kSearch, row, importance.data()).find("column 11"),
            std::string::npos);
}

TEST(Errors, RowLengthMustFit) {
  EXPECT_NE(
      failure(Scheme::kQ4_0, EncodeMethod::kSearch, std::vector<float>(40, 1.0f)).find("multiple of 32"),
      std::string::npos);
  EXPECT_NE(failure(Scheme::kI8C, EncodeMethod::kSearch, {}), "");
}

TEST(Errors, ScaleBeyondFp16IsAnErrorNotInfinity) {
  std::vector<float> row(96, 0.5f);
  row[70] = 2e7f;
  for (const Scheme scheme : {Scheme::kQ4_0, Scheme::kQ4_1, Scheme::kQ5_0, Scheme::kQ5_1, Scheme::kQ8_0,
                              Scheme::kI4G32, Scheme::kI4G32Z, Scheme::kIQ4_NL}) {
    for (const EncodeMethod method : {EncodeMethod::kAbsMax, EncodeMethod::kSearch})
      EXPECT_NE(failure(scheme, method, row).find("columns 64..95"), std::string::npos)
          << scheme_name(scheme);
  }
  for (const Scheme scheme : {Scheme::kI8C, Scheme::kMXFP4, Scheme::kBF16, Scheme::kF32})
    EXPECT_EQ(failure(scheme, EncodeMethod::kSearch, row), "") << scheme_name(scheme);
  EXPECT_NE(failure(Scheme::kF16, EncodeMethod::kSearch, row).find("column 70"), std::string::npos);
}

TEST(Errors, OffsetBeyondFp16IsAnError) {
  const std::vector<float> row(32, -70000.0f);
  EXPECT_NE(failure(Scheme::kQ4_1, EncodeMethod::kSearch, row), "");
}

TEST(Errors, LargestScaleStillWorks) {
  const std::vector<float> row(32, 65504.0f * 8);
  EXPECT_EQ(decode(Scheme::kQ4_0, encode(Scheme::kQ4_0, EncodeMethod::kSearch, row), 32), row);
}

TEST(Errors, SchemesWithoutEncoderAreUnsupported) {
  EXPECT_FALSE(can_encode(Scheme::kQ6_K));
  EXPECT_TRUE(can_encode(Scheme::kI4G32Z));
  const std::vector<float> row(256, 1.0f);
  std::vector<std::byte> out(1024);
  const Status status =
      encode_row(Scheme::kQ6_K, EncodeMethod::kSearch, row.data(), nullptr, 256, out.data());
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), Code::kUnsupported);
  EXPECT_NE(status.error().message().find("q6_k"), std::string::npos);
}

TEST(Methods, NamesParseBack) {
  for (const EncodeMethod method : {EncodeMethod::kAbsMax, EncodeMethod::kSearch})
    EXPECT_EQ(parse_encode_method(encode_method_name(method)).value(), method);
  EXPECT_FALSE(parse_encode_method("best").ok());
}

}  // namespace
}  // namespace fettle
