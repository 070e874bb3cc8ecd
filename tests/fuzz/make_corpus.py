#!/usr/bin/env python3
"""Writes the seeds of corpus/{safetensors,gguf,config,graph_text,artifact}: small files that are right, and some
that are wrong in one place each. Run it from anywhere after changing it; the seeds are committed."""

import json
import pathlib
import re
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"
GOLDEN = CORPUS.parents[1] / "data" / "golden"


def write(folder, name, data):
    path = CORPUS / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


# --- safetensors: 8-byte length, JSON, data ---

def safetensors(header, data, length=None):
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text) if length is None else length) + text.encode() + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def make_safetensors():
    good = {"__metadata__": {"format": "pt"}, "a": entry("F32", [2, 3], 0, 24),
            "b": entry("BF16", [4], 24, 32), "none": entry("I64", [0], 32, 32),
            "scalar": entry("F16", [], 32, 34), "half": entry("F4", [2, 2], 34, 36)}
    first = entry("U8", [4], 0, 4)
    write("safetensors", "good", safetensors(good, bytes(36)))
    write("safetensors", "empty", safetensors("{}", b""))
    write("safetensors", "padded", safetensors("{}      ", b""))
    write("safetensors", "hole", safetensors({"a": first, "b": entry("U8", [4], 5, 9)}, bytes(9)))
    write("safetensors", "overlap", safetensors({"a": first, "b": entry("U8", [4], 3, 7)}, bytes(7)))
    write("safetensors", "huge_shape", safetensors({"a": entry("F64", [1 << 40, 1 << 40], 0, 8)}, bytes(8)))
    write("safetensors", "huge_length", safetensors("{}", b"", 1 << 63))
    twice = '{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{}}'
    write("safetensors", "twice", safetensors(twice, bytes(1)))
    write("safetensors", "deep", safetensors('{"a":' + "[" * 200, b""))
    write("safetensors", "short", struct.pack("<I", 7))
    fp8 = {"a.weight": entry("F8_E4M3", [3, 130], 0, 390), "a.weight_scale_inv": entry("F32", [1, 2], 390, 398),
           "b.weight": entry("F8_E4M3", [1, 4], 398, 402), "b.scale": entry("F8_E8M0", [1, 1], 402, 403),
           "c.weight": entry("I8", [2, 16], 403, 435), "c.scale": entry("F8_E8M0", [2, 1], 435, 437)}
    codes = bytes(i % 256 for i in range(437))
    write("safetensors", "fp8", safetensors(fp8, codes))
    write("safetensors", "fp8_scale_shape", safetensors({**fp8, "a.weight_scale_inv": entry("F32", [2, 1], 390, 398)}, codes))
    del fp8["b.scale"]
    write("safetensors", "fp8_scale_missing", safetensors({**fp8, "b": entry("F8_E8M0", [1, 1], 402, 403)}, codes))


# --- GGUF ---

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f",
           BOOL: "<?", U64: "<Q", I64: "<q", F64: "<d"}


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def value(kind, v):
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        element, items = v
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, i) for i in items)
    return struct.pack(FORMATS[kind], v)


def gguf(pairs, tensors, data, version=3, alignment=32, pad=True):
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    for key, kind, v in pairs:
        out += text(key) + struct.pack("<I", kind) + value(kind, v)
    for name, dims, kind, offset in tensors:
        out += text(name) + struct.pack(f"<I{'Q' * len(dims)}IQ", len(dims), *dims, kind, offset)
    if pad:
        out += bytes(-len(out) % alignment)
    return out + data


def make_gguf():
    llama = [("general.architecture", STRING, "llama"), ("llama.block_count", U32, 1),
             ("llama.rope.freq_base", F32, 1e4)]
    every = llama + [("u8", U8, 1), ("i8", I8, -1), ("u16", U16, 1), ("i16", I16, -1), ("i32", I32, -1),
                     ("bool", BOOL, True), ("u64", U64, 1), ("i64", I64, -1), ("f64", F64, 0.5),
                     ("list", ARRAY, (U16, [1, 2])),
                     ("lists", ARRAY, (ARRAY, [(U8, [1]), (STRING, ["a", "b"])]))]
    write("gguf", "metadata", gguf(every, [], b""))
    sizes = {0: (4, 16), 1: (4, 8), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
             10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18),
             30: (4, 8), 39: (32, 17)}
    tensors, data = [], b""
    for kind, (elements, size) in sizes.items():
        tensors.append((f"t{kind}", [elements, 1], kind, len(data)))
        data += bytes((7 * i + kind) % 256 for i in range(size))
        data += bytes(-len(data) % 32)
    write("gguf", "every_block", gguf(llama, tensors, data))
    write("gguf", "version2", gguf(llama, [("a", [4], 0, 0)], bytes(16), version=2))
    write("gguf", "big_endian", gguf(llama, [], b"", version=3 << 24))
    write("gguf", "aligned8", gguf([("general.alignment", U32, 8)], [("a", [1], 0, 0), ("b", [1], 0, 8)],
                                   bytes(12), alignment=8))
    write("gguf", "stack", gguf(llama, [("e", [4, 2, 3], 0, 0)], bytes(96)))
    write("gguf", "overlap", gguf(llama, [("a", [16], 0, 0), ("b", [4], 0, 32)], bytes(128)))
    write("gguf", "unknown_type", gguf(llama, [("a", [256], 16, 0)], bytes(128)))
    write("gguf", "huge", gguf(llama, [("a", [1 << 62, 4], 0, 0)], bytes(32)))
    write("gguf", "tokenizer", gguf(llama + [
        ("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "qwen2"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, ["a", "b", "ab", "<end>"])),
        ("tokenizer.ggml.token_type", ARRAY, (I32, [1, 1, 1, 3])),
        ("tokenizer.ggml.merges", ARRAY, (STRING, ["a b"])), ("tokenizer.ggml.eos_token_id", U32, 3),
        ("tokenizer.ggml.add_bos_token", BOOL, False),
        ("tokenizer.chat_template", STRING, "{{ messages }}")], [], b""))
    write("gguf", "short", b"GGUF\3\0\0")


# --- configurations, as config.json, metadata of a GGUF or an index ---

def make_config():
    base = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "vocab_size": 272}
    write("config", "plain", json.dumps(base))
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 32}
    write("config", "llama3", json.dumps({**base, "rope_theta": 1e4, "rope_scaling": llama3}))
    write("config", "parameters", json.dumps({**base, "rope_parameters": {**llama3, "rope_theta": 5e5}}))
    yarn = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
            "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0, "attention_factor": 1.2}
    write("config", "yarn", json.dumps({**base, "rope_scaling": yarn}))
    wrong = {"model_type": "llama", "hidden_size": -1, "vocab_size": 1e300, "rope_scaling": []}
    write("config", "wrong", json.dumps(wrong))
    index = {"metadata": {"total_size": 1}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    write("config", "index", json.dumps(index))
    write("config", "escape", json.dumps({"weight_map": {"a": "../one.safetensors", "b": "/two"}}))
    prefix = "qwen2.rope.scaling."
    write("config", "gguf_yarn", gguf([
        ("general.architecture", STRING, "qwen2"), ("qwen2.embedding_length", U32, 64),
        ("qwen2.block_count", U32, 2),
        ("qwen2.rope.freq_base", F32, 1e6), (prefix + "type", STRING, "yarn"), (prefix + "factor", F32, 4.0),
        (prefix + "original_context_length", U32, 64), (prefix + "yarn_log_multiplier", F32, 0.1)], [], b""))
    llama = [("general.architecture", STRING, "llama")]
    divisors = struct.pack("<4f", 1, 1, 2, 8)
    write("config", "gguf_divisors", gguf(llama, [("rope_freqs.weight", [4], 0, 0)], divisors))


# --- graph text: the small model's graph after every pass, and what that one does not use ---

DENSE = """graph "dense" vocab=8 hidden=32 layers=1 context=16
rope @rope halves scale=1 inv_freq=[1, 0.01]
cache 0 full kv_heads=1 k_dim=4 v_dim=4 type=bf16
weight @embed = source("e", bf16, [8, 32])
weight @norm = source("n", f32, [32])
weight @q = permute_rows(source("q", i8c, [8, 32]), rope_halves, 2)
weight @kv = encode(concat(source("k", bf16, [4, 32]), source("v", bf16, [4, 32])), i8c, search)
weight @b = source("b", f32, [8])
weight @o = scale_rows(source("o", bf16, [32, 8]), "s")
weight @up = encode(slice_rows(source("u", f16, [80, 32]), 8, 64), q4_0, search)
weight @head = encode(source("e", bf16, [8, 32]), i4g32z, search)
%0 : f32[T, 32] = embed() w=[@embed]
%1 : q8t[T, 32] = rms_norm(%0) w=[@norm] as=q8t eps=1e-05 heads=1 layer=0
%2 : f32[T, 16] = linear(%1) w=[@q + @b, @kv] layer=0
%3 : f32[T, 8] = columns(%2) begin=0 size=8 layer=0
%4 : f32[T, 4] = columns(%2) begin=8 size=4 layer=0
%5 : f32[T, 4] = columns(%2) begin=12 size=4 layer=0
%6 : f32[T, 8] = rope(%3) at=0 heads=2 rope=rope layer=0
%7 : f32[T, 4] = rope(%4) at=0 heads=1 rope=rope layer=0
%8 : f32[T, 8] = attention(%6, %7, %5) heads=2 scale=0.5 layer=0
%9 : f32[T, 32] = linear(%8) w=[@o] layer=0
%10 : f32[T, 32] = add(%0, %9) layer=0
%11 : q8g32[T, 32] = quantise(%10) as=q8g32 layer=0
%12 : f32[T, 64] = linear(%11) w=[@up] layer=0
%13 : f32[T, 32] = columns(%12) begin=0 size=32 layer=0
%14 : f32[T, 32] = columns(%12) begin=32 size=32 layer=0
%15 : f32[T, 32] = silu_mul(%13, %14) layer=0
%16 : f32[T, 32] = add(%10, %15) layer=0
%17 : f32[R, 32] = select_rows(%16)
%18 : q8g32[R, 32] = quantise(%17) as=q8g32
%19 : f32[R, 8] = linear(%18) w=[@head]
"""
EXPERTS = """graph "experts" vocab=8 hidden=4 layers=1 context=16
weight @embed = source("e", f32, [8, 4])
weight @router = source("r", f32, [3, 4])
weight @gate = stack("x{}.g", bf16, [3, 6, 4])
weight @up = source("u", bf16, [3, 6, 4])
weight @down = stack("x{}.d", bf16, [3, 4, 6])
%0 : f32[T, 4] = embed() w=[@embed]
%1 : f32[T, 3] = linear(%0) w=[@router] layer=0
%2 : routes[T, 2] = route(%1) groups=1 k=2 kept=1 normalise=1 rank=max scale=1.5 score=softmax layer=0
%3 : bf16[T, 4] = quantise(%0) as=bf16 layer=0
%4 : f32[T, 4] = experts(%3, %2) w=[@gate, @up, @down] inner=bf16 layer=0
%5 : f32[R, 4] = select_rows(%4)
%6 : f32[R, 8] = linear(%5) w=[@embed]
"""
LATENT = """graph "latent" vocab=8 hidden=8 layers=1 context=16
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
"""


# Drafts for LATENT: shares its embedding, reads its state.
DRAFT = """graph "draft" vocab=8 hidden=8 layers=2 context=16
cache 1 full kv_heads=1 k_dim=8 v_dim=8 type=f32
weight @embed = source("e", f32, [8, 8])
weight @join = source("j", f32, [8, 16])
%0 : f32[T, 8] = embed() w=[@embed]
%1 : f32[T, 8] = state() cols=8 layer=1
%2 : f32[T, 16] = join(%0, %1) layer=1
%3 : f32[T, 8] = linear(%2) w=[@join] layer=1
%4 : f32[T, 8] = attention(%3, %3, %3) heads=1 scale=0.5 layer=1
%5 : f32[R, 8] = select_rows(%4)
%6 : f32[R, 8] = linear(%5) w=[@embed]
"""


def make_graph_text():
    for golden in sorted(GOLDEN.glob("*.fir")):
        write("graph_text", golden.stem, golden.read_text())
    write("graph_text", "dense", DENSE)
    write("graph_text", "experts", EXPERTS)
    write("graph_text", "latent", LATENT)
    write("graph_text", "draft", DRAFT)
    write("graph_text", "huge_split", LATENT.replace("2, 3, 4)", "2, 4611686018427387904, 4)"))
    write("graph_text", "huge_heads", DENSE.replace("heads=2 scale", "heads=4611686018427387906 scale"))
    write("graph_text", "huge_cache", DENSE.replace("k_dim=4", "k_dim=4611686018427387904"))
    write("graph_text", "huge_concat", DENSE.replace("[4, 32]", "[1099511627776, 4194304]"))
    write("graph_text", "huge_layers", DENSE.replace("layers=1", "layers=4611686018427387904"))
    write("graph_text", "not_finite", DENSE.replace("eps=1e-05", "eps=nan"))
    write("graph_text", "twice", DENSE + DENSE)
    write("graph_text", "selected_twice", EXPERTS.replace("linear(%5)", "select_rows(%5)"))
    write("graph_text", "unscored_experts", EXPERTS.replace('"r", f32, [3, 4]', '"r", f32, [9, 4]')
          .replace("f32[T, 3]", "f32[T, 9]"))


# --- artifacts: the files one after the other, each behind a line with its name ---

ROW_BYTES = {"f32": lambda k: 4 * k, "f16": lambda k: 2 * k, "bf16": lambda k: (k + 1) // 2 * 4,
             "i8c": lambda k: 4 + (k + 31) // 32 * 32, "q4_0": lambda k: k // 32 * 18,
             "i4g32z": lambda k: k // 32 * 19}


def packed_size(scheme, shape):
    """Bytes of tiles of 16 rows, each tile rounded up to 64; a vector is one row as it is."""
    if len(shape) == 1:
        return ROW_BYTES[scheme](shape[0])
    tile = -(-16 * ROW_BYTES[scheme](shape[-1]) // 64) * 64
    return (shape[0] if len(shape) == 3 else 1) * -(-shape[-2] // 16) * tile


def weights_of(graph):
    """Name, scheme and shape of every weight of the two graphs above, which say them last of all."""
    for name, expr in re.findall(r"^weight @(\S+) = (.*)$", graph, re.MULTILINE):
        scheme, dims = re.findall(r"(\w+), \[([\d, ]+)\]", expr)[0]
        shape = [int(d) for d in dims.split(",")]
        if encoded := re.search(r", (\w+), search\)$", expr):
            scheme = encoded[1]
        elif "scale_" in expr:
            scheme = "f32"
        if sliced := re.search(r"slice_rows\(.*\), \d+, (\d+)\)", expr):
            shape[-2] = int(sliced[1])
        if split := re.search(r"split_heads\(.*\), (\d+), \d+, (\d+)\)", expr):
            shape = [int(split[1]), int(split[2]), shape[-1]]
        if "transpose" in expr:
            shape[-2:] = shape[:-3:-1]
        if "concat" in expr:
            shape[0] *= 2
        yield name, scheme, shape


def artifact(graph, change_manifest=None, change_plan=None, draft=None):
    data, entries = b"", []
    weights = list(weights_of(graph))
    weights += [w for w in weights_of(draft or "") if w not in weights]
    for name, scheme, shape in weights:
        size = packed_size(scheme, shape)
        entries.append({"name": name, "scheme": scheme, "layout": "row" if len(shape) == 1 else "n16",
                        "shape": shape, "file": "weights-00001.bin", "offset": len(data), "bytes": size,
                        "sha256": ""})
        # 0.5 in fp32 and bf16, small codes and scales elsewhere.
        data += b"\x00\x3f" * (size // 2) + bytes(size % 2) + bytes(-size % 64)
    plan = {"schema_version": 1, "target": "local", "objective": "latency", "kv_type": "bf16",
            "prefill_chunk": 64, "schemes": {"layers.0.up": "q4_0"},
            "weights": {"up": {"scheme": "q4_0", "layout": "n16", "reason": "budget"}},
            "kernels": [{"scheme": "i8c", "activation": "q8t", "kernel": "i8c.q8t.scalar", "t_min": 1,
                         "t_max": 4, "read_gbs": 1.5, "gops": 2.5}],
            "sensitivity": [{"group": "layers.0.up", "scheme": "q4_0", "kld": 0.001}],
            "rates": {"cpu": "a", "isa": "scalar", "threads": 1, "bandwidth_gbs": 1, "bandwidth_1_gbs": 1,
                      "int8_gops": 1, "bf16_gflops": 1, "f32_gflops": 1, "l2_bytes": 1, "l3_bytes": 1,
                      "memory_bytes": 1}}
    names = ["graph.fir", "plan.json", "tokenizer/tokenizer.json", "weights-00001.bin"]
    manifest = {"schema_version": 2, "content_digest": "",
                "files": [{"name": n, "size": 0, "sha256": ""} for n in names], "weights": entries}
    if draft:
        manifest["files"].append({"name": "draft.fir", "size": 0, "sha256": ""})
        plan["speculation"] = {"use": "mtp:2", "measured": [
            {"speculation": "mtp:2", "batch": 1, "plain_tok_s": 1.5, "speculative_tok_s": 2.5, "gain": 1.6,
             "acceptance": 0.5}]}
    if change_manifest:
        change_manifest(manifest)
    if change_plan:
        change_plan(plan)
    files = {"manifest.json": json.dumps(manifest), "plan.json": json.dumps(plan), "graph.fir": graph,
             "tokenizer/tokenizer.json": "{}", **({"draft.fir": draft} if draft else {})}
    parts = [f"==== {name}\n{content}\n".encode() for name, content in files.items()]
    return b"".join(parts) + b"==== weights-00001.bin\n" + data


def make_artifact():
    write("artifact", "dense", artifact(DENSE))
    write("artifact", "experts", artifact(EXPERTS))
    write("artifact", "latent", artifact(LATENT))
    write("artifact", "draft", artifact(LATENT, draft=DRAFT))
    write("artifact", "draft_of_another", artifact(LATENT, draft=DRAFT.replace("cols=8 layer", "cols=4 layer")
                                                   .replace("[T, 8] = state", "[T, 4] = state")
                                                   .replace("[T, 16]", "[T, 12]").replace("[8, 16]", "[8, 12]")))
    write("artifact", "draft_cache_shared", artifact(LATENT, draft=DRAFT.replace("cache 1", "cache 0")
                                                     .replace("layer=1", "layer=0")))
    write("artifact", "draft_speculation", artifact(LATENT, draft=DRAFT, change_plan=lambda p: p["speculation"].update(
        use="mtp:99")))

    def wrong(name, change, graph=EXPERTS):
        write("artifact", name, artifact(graph, change_manifest=change))

    wrong("beyond_the_file", lambda m: m["weights"][2].update(offset=1 << 62))
    wrong("negative_offset", lambda m: m["weights"][2].update(offset=-64))
    wrong("other_shape", lambda m: m["weights"][2].update(shape=[1 << 62, 4]))
    wrong("weight_twice", lambda m: m["weights"].append(m["weights"][0]))
    wrong("weight_missing", lambda m: m["weights"].pop())
    wrong("file_outside", lambda m: m["files"][3].update(name="../weights-00001.bin"))
    wrong("graph_not_listed", lambda m: m["files"].pop(0))
    wrong("file_twice", lambda m: m["files"].append(m["files"][0]))
    wrong("in_the_tokenizer", lambda m: m["weights"][0].update(file="tokenizer/tokenizer.json"))
    write("artifact", "huge_chunk", artifact(EXPERTS, change_plan=lambda p: p.update(prefill_chunk=1 << 40)))
    view = "%7 : f32[R, 4] = columns(%6) begin=4 size=4\n%8 : f32[R, 8] = linear(%7) w=[@embed]\n"
    write("artifact", "view_into_linear", artifact(EXPERTS + view))


if __name__ == "__main__":
    make_safetensors()
    make_gguf()
    make_config()
    make_graph_text()
    make_artifact()
