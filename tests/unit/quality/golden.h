// Printed things are compared with a file of tests/data/quality. Run quality_test --update-golden to write
// the files anew; look at the difference before keeping it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "base/file.h"

namespace fettle {

inline void expect_golden(const std::string& name, const std::string& found) {
  const std::string path = std::string(FETTLE_TEST_DATA) + "/quality/" + name;
  const auto arguments = testing::internal::GetArgvs();
  const auto expected = read_file(path);
  if (std::find(arguments.begin(), arguments.end(), "--update-golden") != arguments.end()) {
    if (expected.ok() && *expected == found) return;
    std::printf("---- %s was\n%s---- is now\n%s", name.c_str(),
                expected.ok() ? expected->c_str() : "absent\n", found.c_str());
    ASSERT_TRUE(write_file_atomic(path, found).ok());
    return;
  }
  ASSERT_TRUE(expected.ok()) << expected.error().message();
  EXPECT_EQ(*expected, found) << "differs from " << name;
}

}  // namespace fettle
