// Printing, parsing and verifying graphs and weight expressions; hostile text.
#include "graph/text.h"

#include <gtest/gtest.h>

namespace fettle {
namespace {

const char* const kSmall = R"(graph "test" vocab=8 hidden=4 layers=1 context=16
rope @rope halves scale=1 inv_freq=[1, 0.01]
cache 0 full kv_heads=1 k_dim=4 v_dim=4 type=f32
weight @embed = source("e", bf16, [8, 4])
weight @norm = source("n", f32, [4])
weight @q = permute_rows(source("q", bf16, [4, 4]), rope_halves, 1)
weight @kv = encode(concat(source("k", bf16, [4, 4]), source("v", bf16, [4, 4])), i8c, search)
weight @b = source("b", f32, [4])
%0 : f32[T, 4] = embed() w=[@embed]
%1 : f32[T, 4] = rms_norm(%0) w=[@norm] eps=1e-05 heads=1 layer=0
%2 : f32[T, 12] = linear(%1) w=[@q + @b, @kv] layer=0
%3 : f32[T, 4] = columns(%2) begin=0 size=4 layer=0
%4 : f32[T, 4] = columns(%2) begin=4 size=4 layer=0
%5 : f32[T, 4] = columns(%2) begin=8 size=4 layer=0
%6 : f32[T, 4] = rope(%3) at=0 heads=1 rope=rope layer=0
%7 : f32[T, 4] = rope(%4) at=0 heads=1 rope=rope layer=0
%8 : f32[T, 4] = attention(%6, %7, %5) heads=1 scale=0.5 layer=0
%9 : f32[T, 4] = add(%0, %8) layer=0
%10 : f32[R, 4] = select_rows(%9)
%11 : f32[R, 8] = linear(%10) w=[@embed]
)";

const char* const kLatent = R"(graph "latent" vocab=8 hidden=8 layers=1 context=16
rope @rope pairs scale=1 inv_freq=[1]
cache 0 latent kv_heads=1 k_dim=6 v_dim=4 type=f32
weight @embed = source("e", f32, [8, 8])
weight @q = source("q", bf16, [10, 8])
weight @kv = source("a", bf16, [6, 8])
weight @key = transpose(split_heads(source("b", bf16, [14, 4]), 2, 0, 3))
weight @value = split_heads(source("b", bf16, [14, 4]), 2, 3, 4)
weight @router = source("r", f32, [4, 8])
weight @bias = source("c", f32, [4])
weight @gate = slice_rows(source("g", bf16, [4, 12, 8]), 0, 6)
weight @up = slice_rows(source("g", bf16, [4, 12, 8]), 6, 6)
weight @down = source("d", bf16, [4, 8, 6])
%0 : f32[T, 8] = embed() w=[@embed]
%1 : f32[T, 10] = linear(%0) w=[@q] layer=0
%2 : f32[T, 10] = rope(%1) at=3 heads=2 rope=rope layer=0
%3 : f32[T, 6] = linear(%0) w=[@kv] layer=0
%4 : f32[T, 4] = columns(%3) begin=0 size=4 layer=0
%5 : f32[T, 2] = columns(%3) begin=4 size=2 layer=0
%6 : f32[T, 8] = latent_attention(%2, %4, %5) w=[@key, @value] heads=2 inner=bf16 scale=0.5 layer=0
%7 : f32[T, 4] = linear(%6) w=[@router] layer=0
%8 : routes[T, 2] = route(%7) w=[@bias] groups=2 k=2 kept=1 normalise=1 rank=top2 scale=2.5 score=sigmoid layer=0
%9 : f32[T, 8] = experts(%6, %8) w=[@gate, @up, @down] inner=f32 layer=0
%10 : f32[R, 8] = select_rows(%9)
%11 : f32[R, 8] = linear(%10) w=[@embed]
)";

const char* const kStreams = R"(graph "streams" vocab=8 hidden=4 layers=1 context=64
rope @rope pairs scale=1 inv_freq=[1]
cache 0 latent kv_heads=1 k_dim=4 v_dim=4 type=bf16 window=8
cache 0 recent rows kv_heads=1 k_dim=16 v_dim=16 type=f32 window=8
cache 0 entries latent kv_heads=1 k_dim=4 v_dim=4 type=bf16 rate=4
cache 0 index latent kv_heads=1 k_dim=4 v_dim=4 type=bf16 rate=4
weight @embed = source("e", f32, [8, 4])
weight @fn = source("f", f32, [8, 8])
weight @base = source("b", f32, [8])
weight @scale = source("s", f32, [3])
weight @a = source("a", bf16, [8, 4])
weight @shift = source("p", f32, [4, 8])
weight @gain = source("g", f32, [4])
weight @sink = source("k", f32, [2])
weight @o = source("o", bf16, [2, 2, 4])
weight @router = source("r", f32, [3, 4])
weight @table = source("t", f32, [8, 2])
weight @gate = source("x", bf16, [3, 6, 4])
weight @down = source("y", bf16, [3, 4, 6])
%0 : f32[T, 4] = embed() w=[@embed]
%1 : f32[T, 8] = repeat(%0) count=2
%2 : f32[T, 8] = linear(%1) w=[@fn] layer=0
%3 : f32[T, 8] = hyper_mix(%1, %2) w=[@base, @scale] eps=0.001 iters=3 norm_eps=0.01 streams=2 layer=0
%4 : f32[T, 4] = hyper_read(%1, %3) streams=2 layer=0
%5 : f32[T, 8] = linear(%4) w=[@a] layer=0
%6 : f32[T, 4] = compress(%5, %5) w=[@shift, @gain] at=2 eps=0.01 rate=4 rope=rope rows=recent layer=0
%7 : f32[T, 4] = simulate(%6) at=0 heads=1 kind=hadamard_e2m1_g32 size=4 layer=0
%8 : f32[T, 2] = columns(%5) begin=0 size=2 layer=0
%9 : selection[T, 3] = index(%5, %7, %8) heads=2 rate=4 scale=0.5 top=3 layer=0
%10 : f32[T, 8] = window_attention(%5, %4, %6, %9) w=[@sink] heads=2 rate=4 scale=0.5 window=8 layer=0
%11 : f32[T, 4] = grouped_linear(%10) w=[@o] inner=f32 layer=0
%12 : f32[T, 3] = linear(%11) w=[@router] layer=0
%13 : routes[T, 2] = route_by_token(%12) w=[@table] normalise=1 scale=1.5 score=sqrtsoftplus layer=0
%14 : f32[T, 4] = experts(%11, %13) w=[@gate, @gate, @down] early=1 inner=f32 limit=0.5 layer=0
%15 : f32[T, 8] = hyper_write(%1, %14, %3) streams=2 layer=0
%16 : f32[R, 8] = select_rows(%15)
%17 : f32[R, 4] = columns(%16) begin=0 size=4
%18 : f32[R, 8] = linear(%17) w=[@embed]
)";

std::string error_of(const std::string& text) {
  const auto graph = parse_graph(text, "test.fir");
  return graph.ok() ? "" : graph.error().message();
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(GraphText, PrintsWhatItParses) {
  const auto graph = parse_graph(kSmall, "test.fir");
  ASSERT_TRUE(graph.ok()) << graph.error().message();
  EXPECT_EQ(print_graph(*graph), kSmall);
  EXPECT_EQ(graph->parameters(), 8 * 4 + 4 + 16 + 32 + 4);
}

TEST(GraphText, ErrorsNameLineAndReason) {
  struct Case {
    const char *from, *to, *expected;
  };
  const Case cases[] = {
      {"vocab=8", "vocab=x", "line 1"},
      {"embed()", "embedd()", "unknown operation 'embedd'"},
      {"f32[T, 12]", "f32[T, 13]", "type is written as f32[T, 13] but is f32[T, 12]"},
      {"rms_norm(%0)", "rms_norm(%5)", "%5"},
      {"heads=1 rope=rope layer=0\n%7", "heads=3 rope=rope layer=0\n%7",
       "4 columns do not divide into 3 heads"},
      {"rope=rope layer=0\n%7", "rope=other layer=0\n%7", "rope @other is not defined"},
      {"begin=8 size=4", "begin=9 size=4", "columns 9..13 of a value with 12"},
      {"@q + @b", "@q + @norm2", "bias @norm2 is not defined"},
      {"w=[@norm]", "w=[@embed]", "gain is [8, 4]; a part has 4 columns"},
      {"i8c, search", "i9c, search", "unknown scheme 'i9c'"},
      {"rope_halves, 1", "rope_halves, 3", "cannot permute 4 rows"},
      {"[8, 4]", "[8, -4]", "dimension -4"},
      {"[8, 4]", "[99999999999, 99999999999]", "cannot have the shape"},
      {"scale=0.5 layer=0", "scale=0.5 layer=7", "layer 7"},
      {"%11 : f32[R, 8]", "%12 : f32[R, 8]", "expected %11"},
      {"heads=1 scale=0.5", "heads=1 scale=0.5 extra=1", "attribute it does not know"},
      {"linear(%10) w=[@embed]\n", "linear(%10) w=[@embed]\n?\n", "expected a name"},
      {"linear(%10) w=[@embed]\n", "linear(%10) w=[@embed]\ngraph \"x\" vocab=9", "a second header"},
      {"eps=1e-05", "eps=nan", "attribute 'eps' is nan"},
      {"eps=1e-05", "eps=1e-05 eps=1e-05", "attribute 'eps' occurs twice"},
      {"eps=1e-05 heads=1 layer=0", "eps=1e-05 heads=1 layer=-7", "layer=-7"},
      {"[1, 0.01]", "[1, 1e300]", "numbers that fp32 can hold"},
      {"[1, 0.01]", "[1, nan]", "numbers that fp32 can hold"},
      {"halves scale=1", "halves scale=inf", "not finite"},
      {"layers=1 ", "layers=9999999999 ", "at most 1024 layers"},
      {"context=16", "context=4611686018427387904", "expected at most"},
      {"kv_heads=1 k_dim=4", "kv_heads=1 k_dim=4611686018427387904", "expected 1 to 4096"},
      {"attention(%6, %7, %5) heads=1", "attention(%6, %7, %5) heads=4611686018427387904", "heads over 1"},
      {"source(\"b\", f32, [4])", "source(\"b\", f32, [4, 1])", "bias @b is [4, 1]"},
  };
  for (const Case& c : cases)
    EXPECT_NE(error_of(replaced(kSmall, c.from, c.to)).find(c.expected), std::string::npos)
        << c.to << " -> " << error_of(replaced(kSmall, c.from, c.to));
}

TEST(GraphText, LayerNorm) {
  const std::string text = replaced(
      replaced(kSmall, "rms_norm(%0) w=[@norm] eps=1e-05 heads=1", "layer_norm(%0) w=[@norm, @c] eps=1e-05"),
      "weight @q =", "weight @c = source(\"c\", f32, [4])\nweight @q =");
  const auto graph = parse_graph(text, "test.fir");
  ASSERT_TRUE(graph.ok()) << graph.error().message();
  EXPECT_EQ(print_graph(*graph), text);
  EXPECT_NE(error_of(replaced(text, "\"c\", f32, [4]", "\"c\", f32, [5]")).find("gain [4] and bias [5]"),
            std::string::npos);
  EXPECT_NE(error_of(replaced(text, "[@norm, @c]", "[@norm]")).find("expected 2 to 2"), std::string::npos);
  EXPECT_NE(error_of(replaced(text, "[@norm, @c] eps=1e-05", "[@norm, @c] eps=-1.0")).find("eps is -1"),
            std::string::npos);
}

TEST(GraphText, LatentAttentionAndGroupedRoutes) {
  const auto graph = parse_graph(kLatent, "test.fir");
  ASSERT_TRUE(graph.ok()) << graph.error().message();
  EXPECT_EQ(print_graph(*graph), kLatent);
  const struct {
    const char *from, *to, *expected;
  } cases[] = {
      {"at=3 heads=2", "at=4 heads=2", "lanes 4..6 of heads of 5 columns"},
      {"at=3 heads=2", "at=-1 heads=2", "lanes -1..1"},
      {"cache 0 latent", "cache 0 full", "do not fit the cache"},
      {"cache 0 latent", "cache 0 other", "expected full, latent or rows"},
      {"k_dim=6 v_dim=4", "k_dim=6 v_dim=3", "do not fit the cache"},
      {"2, 0, 3)", "2, 5, 3)", "rows 5..+3 of each of 2 heads"},
      {"2, 0, 3)", "3, 0, 3)", "of each of 3 heads"},
      {"w=[@key, @value]", "w=[@value, @key]", "do not fit 2 heads"},
      {"kept=1", "kept=3", "3 of 2 groups"},
      {"groups=2 k=2", "groups=3 k=2", "1 of 3 groups of 4 experts"},
      {"groups=2 k=2", "groups=2 k=3", "k is 3 of 2 experts"},
      {"score=sigmoid", "score=tanh", "score is 'tanh'"},
      {"rank=top2", "rank=top3", "rank is 'top3'"},
      {"\"c\", f32, [4]", "\"c\", f32, [5]", "bias is [5]; there are 4 experts"},
      {"0, 6)", "9, 6)", "rows 9..+6"},
  };
  for (const auto& c : cases)
    EXPECT_NE(error_of(replaced(kLatent, c.from, c.to)).find(c.expected), std::string::npos)
        << c.to << " -> " << error_of(replaced(kLatent, c.from, c.to));
}

TEST(GraphText, StreamsCompressedEntriesAndChoices) {
  const auto graph = parse_graph(kStreams, "test.fir");
  ASSERT_TRUE(graph.ok()) << graph.error().message();
  EXPECT_EQ(print_graph(*graph), kStreams);
  EXPECT_EQ(graph->find_cache(0, "entries")->rate, 4);
  struct Case {
    const char *from, *to, *expected;
  };
  const Case cases[] = {
      {"window=8\ncache 0 recent", "window=7\ncache 0 recent", "window is 8; the cache of layer 0 keeps 7"},
      {"k_dim=16 v_dim=16 type=f32 window=8", "k_dim=16 v_dim=16 type=f32 window=7",
       "does not keep 8 rows of 16"},
      {"k_dim=16 v_dim=16 type=f32", "k_dim=16 v_dim=16 type=bf16", "rows are one head of fp32 numbers"},
      {"rate=4\ncache 0 index", "rate=3\ncache 0 index", "does not keep 4 numbers for every 4 tokens"},
      {"rate=4\nweight", "rate=70000\nweight", "a rate of 1 to 65536"},
      {"cache 0 entries latent", "cache 0 index latent", "no cache 'entries'"},
      {"streams=2 layer=0\n%4", "streams=3 layer=0\n%4", "8 columns in 3 streams"},
      {"iters=3", "iters=0", "iters is 0"},
      {"source(\"s\", f32, [3])", "source(\"s\", f32, [2])", "do not fit 8 columns"},
      {"compress(%5, %5)", "compress(%5, %4)", "at rate 4"},
      {"at=2 eps=0.01", "at=3 eps=0.01", "lanes 3..5"},
      {"kind=hadamard_e2m1_g32 size=4", "kind=e9 size=4", "kind is 'e9'; expected e4m3_g64"},
      {"at=0 heads=1 kind=hadamard_e2m1_g32 size=4", "at=0 heads=1 kind=hadamard_e2m1_g32 size=3",
       "expected a power of two"},
      {"index(%5, %7, %8) heads=2", "index(%5, %7, %5) heads=2", "do not fit 2 heads"},
      {"(%5, %4, %6, %9) w=[@sink]", "(%5, %4, %6, %9) w=[@gain]", "sink is [4]; there are 2 heads"},
      {"(%5, %4, %6, %9) w=[@sink]", "(%5, %4) w=[@sink]", "entries and their rate go together"},
      {"(%5, %4, %6, %9) w=[@sink]", "(%5, %4, %6, %6) w=[@sink]", "input 3 does not choose"},
      {"w=[@o] inner=f32", "w=[@o] inner=routes", "'inner' must be a form"},
      {"source(\"t\", f32, [8, 2])", "source(\"t\", f32, [7, 2])", "table is [7, 2]; vocab is 8"},
      {"limit=0.5", "limit=0", "limit is 0"},
      {"limit=0.5", "limit=-0.5", "limit is -0.5; expected above 0"},
      {"hyper_write(%1, %14, %3)", "hyper_write(%1, %1, %3)", "adds f32[T, 8] to streams of f32[T, 4]"},
  };
  for (const Case& c : cases)
    EXPECT_NE(error_of(replaced(kStreams, c.from, c.to)).find(c.expected), std::string::npos)
        << c.to << " -> " << error_of(replaced(kStreams, c.from, c.to));
}

TEST(GraphText, UnusedAndRepeatedThingsAreRefused) {
  EXPECT_NE(error_of(std::string(kSmall) + "weight @spare = source(\"s\", f32, [4])\n").find("never used"),
            std::string::npos);
  EXPECT_NE(error_of(replaced(kSmall, "weight @b =", "weight @norm = source(\"x\", f32, [4])\nweight @b ="))
                .find("twice"),
            std::string::npos);
  EXPECT_NE(error_of("").find("positive"), std::string::npos);
}

// What the executor relies on: positions belong to all tokens, routes to the experts that were scored, the
// logits to the selected rows and to nobody else.
TEST(GraphText, RowsAndRoutesFit) {
  EXPECT_NE(error_of(replaced(kSmall, "%10 : f32[R, 4] = select_rows(%9)\n%11 : f32[R, 8] = linear(%10)",
                              "%10 : f32[T, 8] = linear(%9)"))
                .find("expected logits f32[R, 8]"),
            std::string::npos);
  EXPECT_NE(error_of(replaced(kSmall, "%11 : f32[R, 8] = linear(%10)",
                              "%11 : f32[R, 4] = select_rows(%10)\n%12 : f32[R, 8] = linear(%11)"))
                .find("expected a value of all tokens"),
            std::string::npos);
  const std::string experts = R"(graph "moe" vocab=8 hidden=4 layers=0 context=16
weight @embed = source("e", bf16, [8, 4])
weight @router = source("r", f32, [3, 4])
weight @up = stack("u{}", bf16, [2, 6, 4])
weight @down = stack("d{}", bf16, [2, 4, 6])
%0 : f32[T, 4] = embed() w=[@embed]
%1 : f32[R, 4] = select_rows(%0)
%2 : f32[R, 3] = linear(%1) w=[@router]
%3 : routes[R, 1] = route(%2) groups=1 k=1 kept=1 normalise=1 rank=max scale=1.0 score=softmax
%4 : f32[R, 4] = experts(%1, %3) w=[@up, @up, @down] inner=f32
%5 : f32[R, 8] = linear(%4) w=[@embed]
)";
  EXPECT_NE(error_of(experts).find("the routes are to 3 experts; the weights hold 2"), std::string::npos)
      << error_of(experts);
  const std::string fits = replaced(replaced(experts, "[3, 4]", "[2, 4]"), "f32[R, 3]", "f32[R, 2]");
  EXPECT_EQ(error_of(fits), "");
  EXPECT_NE(error_of(replaced(fits, "experts(%1, %3)", "experts(%0, %3)")).find("rows and their routes"),
            std::string::npos);
  // One that every row has besides: behind those with scores.
  std::string more =
      replaced(replaced(fits, "k=1 kept=1", "k=1 kept=1 always=1"), "routes[R, 1]", "routes[R, 2]");
  more = replaced(more, "route(%2) groups=1 k=1 kept=1 always=1", "route(%2) always=1 groups=1 k=1 kept=1");
  EXPECT_NE(error_of(more).find("the routes are to 3 experts; the weights hold 2"), std::string::npos);
  for (const char* stack : {"stack(\"u{}\", bf16, [2, 6, 4])", "stack(\"d{}\", bf16, [2, 4, 6])"}) {
    const std::string one = std::string("source(\"s\", bf16, ") + (stack[7] == 'u' ? "[6, 4])" : "[4, 6])");
    more = replaced(more, stack, "append(" + std::string(stack) + ", " + one + ")");
  }
  EXPECT_EQ(error_of(more), "");
  EXPECT_EQ(print_graph(*parse_graph(more, "again")), more);
  EXPECT_NE(error_of(replaced(more, "always=1", "always=-1")).find("always is -1"), std::string::npos);
}

TEST(GraphText, MoreThanAnyModelIsRefused) {
  std::string many = "graph \"g\" vocab=8 hidden=4 layers=0 context=16\n";
  for (int i = 0; i < 9000; ++i)
    many += fmt::format("cache {} full kv_heads=1 k_dim=1 v_dim=1 type=f32\n", i);
  EXPECT_NE(error_of(many).find("more than 8192 caches"), std::string::npos);
  EXPECT_NE(
      error_of(replaced(kSmall, "source(\"v\", bf16, [4, 4])", "source(\"v\", bf16, [1099511627776, 4])"))
          .find("more than"),
      std::string::npos);
  EXPECT_NE(parse_expr("concat(source(\"a\", bf16, [1099511627776, 4194304]), source(\"a\", bf16, "
                       "[1099511627776, 4194304]))",
                       "test")
                .error()
                .message()
                .find("more rows than a matrix can have"),
            std::string::npos);
}

TEST(GraphText, EveryCutOfTheTextIsAnErrorNotACrash) {
  const std::string text = kSmall;
  for (size_t n = 0; n + 1 < text.size(); ++n) {
    const auto graph = parse_graph(text.substr(0, n), "cut");
    EXPECT_FALSE(graph.ok() && n + 1 != text.size()) << n;
  }
}

TEST(GraphText, EveryChangedByteIsHandled) {
  for (size_t at = 0; at < std::string(kSmall).size(); ++at)
    for (const char c : {'\0', '9', '(', '"', '\n', '-', '@'}) {
      std::string text = kSmall;
      text[at] = c;
      const auto graph = parse_graph(text, "changed");
      EXPECT_TRUE(!graph.ok() || verify_graph(*graph).ok());
    }
}

TEST(Expressions, RoundTripAndDepthLimit) {
  for (const char* text : {"source(\"a\", q4_1, [576, 576])", "stack(\"m.{}.w\", bf16, [64, 8, 32])",
                           "slice_rows(source(\"a\", f16, [8, 4]), 2, 3)",
                           "scale_cols(scale_rows(source(\"a\", bf16, [8, 4]), \"r\"), \"c\")",
                           "encode(source(\"a\", bf16, [8, 32]), i4g32, search)",
                           "append(stack(\"m.{}.w\", q4_1, [4, 8, 32]), source(\"s\", q4_1, [8, 32]))"}) {
    const auto expr = parse_expr(text, "test");
    ASSERT_TRUE(expr.ok()) << expr.error().message();
    EXPECT_EQ(expr_text(**expr), text);
  }
  std::string deep;
  for (int i = 0; i < 10000; ++i) deep += "concat(";
  EXPECT_NE(parse_expr(deep, "test").error().message().find("nested deeper"), std::string::npos);
}

TEST(Expressions, WhatIsAppendedIsAsTheStack) {
  const std::string stack = "append(stack(\"m.{}.w\", bf16, [4, 8, 32]), ";
  for (const char* other :
       {"source(\"s\", bf16, [8, 16]))", "source(\"s\", bf16, [4, 32]))", "source(\"s\", f16, [8, 32]))"})
    EXPECT_NE(parse_expr(stack + other, "test").error().message().find("append of"), std::string::npos)
        << other;
  EXPECT_NE(parse_expr("append(source(\"s\", bf16, [8, 32]), source(\"s\", bf16, [8, 32]))", "test")
                .error()
                .message()
                .find("append of"),
            std::string::npos);
  const auto more =
      parse_expr(stack + "source(\"s\", bf16, [8, 32]), stack(\"n.{}\", bf16, [2, 8, 32]))", "test");
  ASSERT_TRUE(more.ok());
  EXPECT_EQ((*more)->shape, (Shape{7, 8, 32}));
}

TEST(Expressions, OnlyRowMovesAreCarried) {
  const ExprPtr a = source_expr("a", Scheme::kQ4_1, {8, 32});
  EXPECT_TRUE(is_carried(*permute_rows_expr(a, "rope_halves", 2)));
  EXPECT_TRUE(is_carried(*concat_expr({slice_rows_expr(a, 0, 4), a})));
  EXPECT_FALSE(is_carried(*encode_expr(a, Scheme::kI8C, "search")));
  const ExprPtr stack = stack_expr("{}", Scheme::kQ4_1, {2, 8, 32});
  EXPECT_TRUE(is_carried(*append_expr({stack, a})));
  EXPECT_FALSE(is_carried(
      *append_expr({encode_expr(stack, Scheme::kI8C, "search"), encode_expr(a, Scheme::kI8C, "search")})));
  EXPECT_FALSE(is_carried(*scale_rows_expr(a, "v")));
}

TEST(Expressions, RopePermutationTakesPairsToHalves) {
  // One head of 6 rows stored as pairs (0,1)(2,3)(4,5): halves are rows 0 2 4 | 1 3 5.
  std::vector<int64_t> order;
  for (int64_t r = 0; r < 6; ++r) order.push_back(permuted_row(r, 6, 1));
  EXPECT_EQ(order, (std::vector<int64_t>{0, 2, 4, 1, 3, 5}));
  EXPECT_EQ(permuted_row(7, 12, 2), 8);
}

}  // namespace
}  // namespace fettle
