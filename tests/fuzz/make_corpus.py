#!/usr/bin/env python3
"""Writes the seeds of corpus/{safetensors,gguf,config}: small files that are right, and some that are wrong
in one place each. Run it from anywhere after changing it; the seeds are committed."""

import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


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


if __name__ == "__main__":
    make_safetensors()
    make_gguf()
    make_config()
