// Certificates as real runs give them, and the awkward ones.
#pragma once

#include "quality/certificate.h"

namespace fettle {

Certificate passing_sample();  // a small dense model, everything measured
Certificate failing_sample();  // 80 layers, mixture of experts, four-bit, over its budget; speed predicted
Certificate sparse_sample();   // no generated text, no tasks, no checks, no speed, no budget, one window
Certificate
hostile_sample();  // names that try to be markup, escape codes, very long; results that are not finite

}  // namespace fettle
