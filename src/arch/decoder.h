// What most decoder-only transformers share, for architecture files to assemble: reading the common fields,
// fetching tensors under their Hugging Face names from either format, grouped-query attention, the gated MLP,
// and the frame of embedding, layers and head.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "arch/arch.h"
#include "checkpoint/tensor_names.h"

namespace fettle {

struct DecoderConfig {
  int64_t vocab, hidden, layers, heads, kv_heads, head_dim, inner, context;
  double norm_eps;
  bool tied_head;
  RopeConfig rope;
  int64_t rope_dim;           // rotated lanes of a head
  bool rope_pairs = false;    // of neighbours, not of halves
  bool drafts_apart = false;  // the layer that drafts tokens is not counted behind the others: "model.mtp.0."
};
struct DecoderReading {
  const RopeConfig* rope = nullptr;  // read already; null: where most models have it
  bool dense_mlp = true;             // some layer has one, whose width the configuration says
};
Result<DecoderConfig> read_decoder_config(const Checkpoint& checkpoint, const ModelFields& fields,
                                          const DecoderReading& reading = {});

class DecoderBuilder {
 public:
  DecoderBuilder(const Checkpoint& checkpoint, const ModelFields& fields, DecoderConfig config);

  // Runs `layer(builder, n, residual)` for every layer between embedding and head.
  using Layer = std::function<Result<ValueId>(DecoderBuilder& builder, int64_t layer, ValueId residual)>;
  // What the residual stream is made of the embedding, and of it what the last norm reads; absent: the same.
  using Ending = std::function<Result<ValueId>(DecoderBuilder& builder, ValueId x)>;
  struct Endings {
    Ending enter, leave;
    Ending draft_enter, draft_leave;  // of a draft graph
  };
  Result<BuiltGraph> build(const Layer& layer) { return build(layer, {}); }
  Result<BuiltGraph> build(const Layer& layer, const Endings& endings);
  // With the draft graph too, of the layer behind the last, where the configuration speaks of it and the
  // checkpoint holds it: multi-token prediction as in DeepSeek-V3 (arXiv 2412.19437, section 2.2), an
  // ordinary layer over the embedding of the token after and the final norm's output, each normed, side by
  // side.
  Result<BuiltGraph> build_with_draft(const Layer& layer) { return build_with_draft(layer, {}); }
  Result<BuiltGraph> build_with_draft(const Layer& layer, const Endings& endings);

  // For architectures that go beyond what follows here.
  GraphBuilder& ops() { return ops_; }
  Graph& graph() { return graph_; }

  // A tensor by its Hugging Face name, required to have the shape; `tensor` defines the weight under `name`.
  // numbers(): a table of whole numbers.
  Result<ExprPtr> stored(const std::string& hf_name, const Shape& shape);
  Result<ExprPtr> numbers(const std::string& hf_name, const Shape& shape);
  Result<std::string> tensor(const std::string& name, const std::string& hf_name, const Shape& shape);
  bool has_tensor(const std::string& hf_name) const;

  struct NormOptions {
    int64_t heads = 1;
    double eps = 0;  // 0: the configuration's
  };
  Result<ValueId> norm(ValueId x, const std::string& name, const std::string& hf_name, int64_t width,
                       NormOptions options);
  Result<ValueId> norm(ValueId x, const std::string& name, const std::string& hf_name, int64_t width) {
    return norm(x, name, hf_name, width, NormOptions{});
  }
  struct LinearOptions {
    int64_t rope_heads = 0;  // > 0: rows are heads of a rotary projection, which some files store permuted
    bool bias = false;
  };
  Result<ValueId> linear(ValueId x, const std::string& name, const std::string& hf_prefix, int64_t rows,
                         LinearOptions options);

  // q, k, v projections, optional norms of q and k heads, rope, attention, output projection. Reads the
  // normed input.
  struct AttentionOptions {
    bool qkv_bias = false, output_bias = false, qk_norm = false;
  };
  Result<ValueId> attention(int64_t layer, ValueId x, AttentionOptions options);
  // Multi-head latent attention (arXiv 2405.04434, section 2.1): keys and values of all heads are made from
  // one latent and one rotated key.
  struct LatentAttentionOptions {
    int64_t q_latent;  // 0: the query comes from x directly
    int64_t latent, plain,
        value;     // columns: of the latent, of a head's key without rotation, of a head's value
    double scale;  // of the scores
    std::string simulated = "";  // kind of rounding that the latent goes through; "": none
    // Chooses the positions that attention reads, from its input and the latent of the query; absent: all.
    using Choose =
        std::function<Result<ValueId>(DecoderBuilder& builder, int64_t layer, ValueId x, ValueId q_latent)>;
    Choose choose = nullptr;
  };
  Result<ValueId> latent_attention(int64_t layer, ValueId x, const LatentAttentionOptions& options);

  // `part`: "mlp" or "mlp.shared_experts".
  Result<ValueId> gated_mlp(int64_t layer, ValueId x, int64_t inner, bool bias = false,
                            const std::string& part = "mlp", double limit = 0);
  // `experts` gated MLPs of which `k` are used for each token.
  struct MoeOptions {
    int64_t experts, k, inner;
    bool normalise;
    double scale = 1;
    int64_t groups = 1, kept_groups = 1;
    std::string score = "softmax";
    std::string rank = "max";    // of groups: by their best expert, or by the sum of the two best
    double limit = 0;            // of gate and up; 0: none
    bool choice_bias = false;    // added to the scores for choosing only
    bool early_weights = false;  // they multiply before the last matrix
    int64_t shared_inner = 0;    // width of the MLP that every token uses besides
  };
  Result<ValueId> moe(int64_t layer, ValueId x, MoeOptions options);
  // The same behind a router of one's own.
  Result<ValueId> moe_of(int64_t layer, ValueId x, ValueId routes, const MoeOptions& options);

  // The first lanes of every head; by default all.
  ValueId simulate(ValueId x, int64_t heads, const std::string& kind, int64_t width = 0) {
    if (width == 0) width = graph_.nodes[x].type.cols / heads;
    return ops_.add(Op::kSimulate, {x}, {},
                    {{"heads", heads}, {"at", int64_t{0}}, {"size", width}, {"kind", kind}});
  }
  ValueId add(ValueId a, ValueId b) { return ops_.add(Op::kAdd, {a, b}); }
  const DecoderConfig& config() const { return config_; }
  // "model.layers.7.", in front of the Hugging Face names of a layer's tensors.
  std::string hf_layer(int64_t layer) const;

 private:
  Result<std::string> expert_stack(const std::string& name, const std::string& pattern, const Shape& shape);
  struct ExpertStacks {
    std::string gate, up, down;
  };
  Result<ExpertStacks> expert_stacks(const std::string& name, const std::string& hf,
                                     const MoeOptions& options);
  Status start_graph(int64_t layers);
  Result<bool> has_draft_layer() const;  // a configuration alone is believed
  Result<Graph> build_draft(const Layer& layer, const Endings& endings);
  Result<ValueId> join_token_and_state(ValueId token);
  // A tensor that the draft layer shares with the model: the model's, unless the layer's own copy differs.
  struct SharedTensor {
    std::string name, hf_name;          // in the main graph
    std::string own_name, own_hf_name;  // of the copy
  };
  Result<std::string> shared_tensor(const SharedTensor& shared, const Shape& shape);
  bool belongs_to_draft_layer(const std::string& name) const;
  void report_unused(BuiltGraph* built) const;

  const Checkpoint& checkpoint_;
  const ModelFields& fields_;
  DecoderConfig config_;
  Graph graph_;
  GraphBuilder ops_;
  bool drafts_ = false;  // a draft graph is wanted
  std::set<std::string> consumed_;
  std::map<std::string, std::string> copies_;  // tensors not read, as they are others bit for bit
};

// Inverse frequencies after long-context scaling (models.md 0.2, 0.3: the published formulas of Llama 3 and
// YaRN).
Result<Rope> make_rope(const RopeConfig& config, int64_t dim, bool pairs);

}  // namespace fettle
