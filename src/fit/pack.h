// Packing: weights of adapted graphs are evaluated and handed to the writer piece by piece. While one
// piece is hashed and written, the next is computed; memory holds a few pieces, whatever the size of a
// matrix.
#pragma once

#include <functional>
#include <span>

#include "artifact/writer.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "graph/graph.h"

namespace fettle {

// Weights that the writer has already are left out. `packed` is told the share of all bytes that are done.
Status pack_weights(std::span<const Weight> weights, const Checkpoint& checkpoint, ThreadPool& pool,
                    ArtifactWriter& writer, const std::function<void(double share)>& packed);

}  // namespace fettle
