// The definition: body.h over lanes in a plain array.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/elementwise/kernels.h"
#include "kernels/vec16_scalar.h"
// After the lanes that they are written in:
#include "kernels/vec16.h"
//
#include "kernels/elementwise/body.h"

namespace fettle {

constinit const ElementwiseKernels kElementwiseRef = elementwise_table(Isa::kScalar);

}  // namespace fettle
