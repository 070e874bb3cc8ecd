// The reference interpreter: one sequence from position 0, no cache, no threads, plain loops with double
// sums. The oracle that passes (before = after) and kernels are tested against; far too slow for anything
// else.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "graph/graph.h"
#include "tensor/matrix.h"

namespace fettle {

// The decoded matrix [rows, cols] of a weight (of one member, if it is a stack).
using DecodedWeights =
    std::function<Result<std::vector<float>>(const std::string& weight, int64_t stack_index)>;

// Values by node, [rows, cols]; the last one holds the logits of all positions (every row is selected).
// `states`: the rows that a draft graph reads.
Result<std::vector<std::vector<float>>> interpret(const Graph& graph, const DecodedWeights& weights,
                                                  std::span<const int32_t> ids,
                                                  std::span<const float> states = {});

}  // namespace fettle
