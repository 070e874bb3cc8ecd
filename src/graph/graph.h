// The graph: one forward pass over T flat tokens, as typed operations on values, with weights as expressions.
// A plain value: it prints (print.h), parses back (parse.h), verifies (verify.h) and runs slowly but surely
// (interpret.h). Sequences do not exist here: they are a side input that `attention` and `rope` read
// (positions, block tables).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/result.h"
#include "graph/expr.h"

namespace fettle {

// What the rows of a value are: the T tokens of the batch, or the R <= T tokens whose logits are wanted.
enum class Rows : uint8_t { kTokens, kSelected };
// How a value's elements are held. The rounded forms are those of the linear kernels
// (kernels/linear/quantise.h).
// Routes and selections are numbers of experts and of cache entries, one row a token.
enum class Form : uint8_t { kF32, kBF16, kQ8G32, kQ8T, kF8G128, kF8G128Ue8m0, kRoutes, kSelection };
inline bool is_number_form(Form form) { return form != Form::kRoutes && form != Form::kSelection; }

struct ValueType {
  Form form = Form::kF32;
  Rows rows = Rows::kTokens;
  int64_t cols = 0;
  bool operator==(const ValueType&) const = default;
};
std::string_view form_name(Form form);
std::optional<Form> parse_form(std::string_view name);
std::string type_text(const ValueType& type);  // "f32[T, 576]"

enum class Op : uint8_t {
  kEmbed,      // () w=[table]                 -> f32[T, D]: row of the token's id
  kRmsNorm,    // (x) w=[gain]? eps heads as   -> x's shape: each of `heads` parts of a row normalised alone
  kLayerNorm,  // (x) w=[gain, bias] eps       -> less its mean, over its deviation, times gain plus bias
  kQuantise,   // (x) as                       -> the rounded form
  kLinear,     // (x) w=[a + bias, b, ...]     -> f32: x . a^T, x . b^T, ... side by side
  kColumns,    // (x) begin size               -> a view of some columns
  kRope,  // (x) rope heads at            -> rotary embedding of the lanes from `at` on of every head, by the
          // row's position
  kAttention,   // (q, k, v) layer heads scale as -> softmax(scale q.k) v, causal, over the layer's cache, k
                // and v stored first
  kAdd,         // (a, b)
  kSiluMul,     // (gate, up) as limit?         -> silu(gate) * up; gate at most limit, up within +-limit
  kSelectRows,  // (x)                          -> the rows whose logits are wanted
  kLatentAttention,  // (q, c, p, chosen?) w=[key, value, key_rows?] layer heads scale inner -> multi-head
                     // latent attention: of head h, q = [n | r]; scores n.(key[h]^T c) + r.p; the sum of
                     // value[h] c; latent c[T, L], rotated p[T, R] shared by all heads; stacks key[heads, L,
                     // N], value[heads, V, L], key_rows = key transposed; of the past only the chosen
                     // positions, if that is given
  kRoute,  // (scores) w=[bias]? k normalise scale groups kept score rank always? -> routes: the k largest of
           // score + bias within the `kept` groups that rank first, weighed by the score alone; then `always`
           // experts of weight 1, numbered after those with scores
  kExperts,     // (x, routes) w=[gate, up, down] inner limit? early? -> sum over the row's routes of weight *
                // down(silu(gate x) * up x); early=1: the weight multiplies before down
  kRepeat,      // (x) count                    -> x, x, ...: [T, count * cols]
  kHyperMix,    // (x, raw) w=[base, scale] streams iters eps norm_eps -> how residual streams mix, from raw =
                // x . F^T: kernels/hyper/hyper.h
  kHyperRead,   // (x, mix) streams             -> sum of pre[j] * stream j
  kHyperWrite,  // (x, y, mix) streams          -> stream k becomes post[k] y + sum over j of C[j, k] stream j
  kCompress,    // (a, b) w=[shift, gain] layer rate at eps rope rows -> the entry that stands for `rate`
                // tokens, in the row of the last of them; what is in other rows does not count:
                // kernels/compress/compress.h
  kIndex,       // (q, k, w) layer heads rate top scale -> selection: the `top` entries j of the past with the
                // largest sum over heads of w[h] relu(scale q[h].k[j]), ascending, padded with -1; ties: the
                // earlier. An entry is k's row of every rate-th token
  kWindowAttention,  // (q, kv, entries?, chosen?) w=[sink]? layer heads window rate? scale -> softmax over
                     // the newest `window` rows of kv and, of every rate-th row of entries, all or the
                     // chosen; kv and entries are key and value of all heads; sink[h] counts in the
                     // denominator alone
  kGroupedLinear,    // (x) w=[stack] inner     -> the i-th of as many column groups of x times member i
  kRouteByToken,  // (scores) w=[table] normalise scale score always? -> routes: row id of the table, weighed
                  // by score, and `always` as above
  kSimulate,      // (x) heads at size kind         -> lanes at.. of every head rounded and restored
  kState,         // () cols                 -> f32[T, cols]: the rows of state that the caller hands in
  kJoin,          // (a, b) as               -> the columns of a, then those of b
};
using Attr = std::variant<int64_t, double, std::string>;

struct WeightRef {
  std::string weight;
  std::string bias;  // empty: none
  bool operator==(const WeightRef&) const = default;
};

using ValueId = int32_t;  // index of the node that makes it

struct Node {
  Op op;
  std::vector<ValueId> inputs;
  std::vector<WeightRef> weights;
  std::map<std::string, Attr> attrs;
  int64_t layer = -1;  // the decoder layer it belongs to; -1: before the first or after the last
  ValueType type;

  int64_t integer(const std::string& key) const;
  double number(const std::string& key) const;
  const std::string& text(const std::string& key) const;
  int64_t integer_or(const std::string& key, int64_t fallback) const {
    return has(key) ? integer(key) : fallback;
  }
  double number_or(const std::string& key, double fallback) const {
    return has(key) ? number(key) : fallback;
  }
  bool has(const std::string& key) const { return attrs.count(key) != 0; }
};

struct Weight {
  std::string name;
  ExprPtr expr;
};

// Rotary embedding: angle of pair i at position p = p * inv_freq[i]; cos and sin multiplied by `scale`.
struct Rope {
  std::string name;
  bool pairs = false;  // false: halves (x[i], x[i+d/2]); true: neighbours (x[2i], x[2i+1])
  double scale = 1;
  std::vector<float> inv_freq;
};

// What a layer keeps of the past, by role: "kv", or what an operation names besides. An entry stands for
// `rate` positions; of a cache with a window only the newest `window` positions are ever read again.
enum class CacheKind : uint8_t {
  kFull,    // keys and values
  kLatent,  // the value is the first v_dim numbers of the key: stored once
  kRows,    // plain fp32 rows, nothing that is attended to
};
std::string_view cache_kind_name(CacheKind kind);
std::optional<CacheKind> parse_cache_kind(std::string_view name);

struct CacheSpec {
  int64_t layer = 0;
  int64_t kv_heads = 0, k_dim = 0, v_dim = 0;
  std::string type = "f32";  // element type, chosen by a pass
  CacheKind kind = CacheKind::kFull;
  std::string role = "kv";
  int64_t window = 0;  // 0: all of the past
  int64_t rate = 1;
};

struct Graph {
  std::string architecture;  // for people; nothing depends on it
  int64_t vocab = 0, hidden = 0, layers = 0, context = 0;
  std::vector<Rope> ropes;
  std::vector<CacheSpec> caches;  // ascending by layer
  std::vector<Weight> weights;
  std::vector<Node> nodes;  // in order of execution; the last one yields the logits

  const Weight* find_weight(std::string_view name) const;
  Weight* find_weight(std::string_view name);
  const Rope* find_rope(std::string_view name) const;
  const CacheSpec* find_cache(int64_t layer, std::string_view role = "kv") const;
  int64_t parameters() const;
  // What one token is multiplied with, as makers of mixtures of experts count it: of the experts those
  // chosen, and not the embedding's table. Without experts: all.
  int64_t active_parameters() const;
};

// The table of operations: names and what each may carry.
struct OpInfo {
  Op op;
  std::string_view name;
  int min_inputs, max_inputs;
  int min_weights, max_weights;
  bool bias;                               // weights may have biases
  std::vector<std::string_view> integers;  // required attributes
  std::vector<std::string_view> numbers;
  std::vector<std::string_view> texts;
  bool may_round = false;  // may carry `as`: the rounded form of its output
  std::vector<std::string_view> optional_integers = {}, optional_numbers = {};
};
const OpInfo& op_info(Op op);
const OpInfo* find_op(std::string_view name);

// What a graph may hold at most, far beyond any model: a file from elsewhere cannot make its readers reserve
// or search without end.
inline constexpr int64_t kMostColumns = INT32_MAX;  // also of tokens in the vocabulary and in the context
inline constexpr int64_t kMostLayers = 1024;
inline constexpr size_t kMostNodes = 65536;
inline constexpr size_t kMostRopes = 64;
inline constexpr int64_t kMostHeads = 65536;
inline constexpr int64_t kMostHeadColumns = 4096;
inline constexpr int64_t kMostStreams = 64;
inline constexpr size_t kMostCaches = 8 * kMostLayers;
inline constexpr int64_t kMostRate = 65536;  // positions an entry of a cache stands for
inline constexpr int64_t kMostParameters = int64_t{1} << 50;
Status check_cache(const CacheSpec& cache);

// What is left of each token when rows are chosen for logits: the input of the first select_rows. It is what
// a draft graph goes on from, one `state` row a token.
ValueId state_of(const Graph& graph);

// Weights of a graph and of the draft graph beside it, those that both read once.
std::vector<Weight> all_weights(const Graph& graph, const std::optional<Graph>& draft);
// Of the weights that the draft graph alone reads.
int64_t draft_parameters(const Graph& graph, const Graph& draft);

// The caches of its layer that a node writes and reads.
std::vector<std::string> cache_roles(const Node& node);

// Places of the weights by name, for those who look up all of them.
using WeightIndex = std::unordered_map<std::string_view, const Expr*>;
WeightIndex index_weights(const Graph& graph);

// The type of a node's value from its inputs, weights and attributes; the one place where shapes are derived
// and checked. Without an index the graph's weights are searched.
Result<ValueType> infer_type(const Graph& graph, const Node& node, const WeightIndex* index = nullptr);

// Appends nodes with inferred types; architecture files and passes build graphs with it. Misuse is a
// programmer error.
class GraphBuilder {
 public:
  explicit GraphBuilder(Graph* graph) : graph_(graph) {}
  void set_layer(int64_t layer) { layer_ = layer; }
  ValueId add(Op op, std::vector<ValueId> inputs, std::vector<WeightRef> weights = {},
              std::map<std::string, Attr> attrs = {});
  std::string weight(std::string name, ExprPtr expr);  // returns the name

 private:
  Graph* graph_;
  int64_t layer_ = -1;
};

// Number of readers of every value; the last node's value has one reader more.
std::vector<int> count_uses(const Graph& graph);

// Rebuilds a graph node by node: `edit` may emit any nodes for each old one and returns the id that stands
// for its value. Weights that nothing refers to any more are dropped.
template <typename Edit>
Graph rewrite(const Graph& graph, Edit edit);
Graph drop_unused_weights(Graph graph);

template <typename Edit>
Graph rewrite(const Graph& graph, Edit edit) {
  Graph out = graph;
  out.nodes.clear();
  GraphBuilder builder(&out);
  std::vector<ValueId> renamed(graph.nodes.size(), -1);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    Node node = graph.nodes[i];
    for (ValueId& input : node.inputs) input = renamed[input];
    builder.set_layer(node.layer);
    renamed[i] = edit(builder, out, node, static_cast<ValueId>(i));
  }
  return drop_unused_weights(std::move(out));
}
inline ValueId copy_node(GraphBuilder& builder, const Node& node) {
  return builder.add(node.op, node.inputs, node.weights, node.attrs);
}

}  // namespace fettle
