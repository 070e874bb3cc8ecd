#!/usr/bin/env python3
"""Writes a Hugging Face directory of the DeepSeek-V3 architecture with seeded pseudo-random weights, for tests of
speed and scale: the same arguments give the same bytes.

    make_model.py DIR [--shape v3-layers] [--fp8] [--hidden 1024 ...] [--tokenizer DIR]

Weights are as large as trained ones are (values of about 1 / sqrt(columns)), so that activations stay in range.
With --fp8 matrices are e4m3 codes under fp32 scales of 128 x 128 blocks, as the family publishes them.
"""

import argparse
import json
import math
import random
import shutil
import struct
from pathlib import Path
from statistics import NormalDist

# By name, the shapes that figures are quoted for; every number can be overridden.
SHAPES = {
    "small": dict(hidden=1024, layers=8, dense_layers=1, heads=16, q_lora=768, kv_lora=512, rope=64, nope=128, v=128,
                  ffn=3072, experts=32, top=6, shared=1, expert_ffn=768, groups=1, kept=1, vocab=32768),
    "v3-layers": dict(hidden=7168, layers=4, dense_layers=3, heads=128, q_lora=1536, kv_lora=512, rope=64, nope=128,
                      v=128, ffn=18432, experts=256, top=8, shared=1, expert_ffn=2048, groups=8, kept=4, vocab=129280),
}
BLOCK = 128
PIECE = 16 << 20  # bytes made at a time


def config(s: dict, fp8: bool) -> dict:
    out = {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_act": "silu",
        "vocab_size": s["vocab"], "hidden_size": s["hidden"], "intermediate_size": s["ffn"],
        "moe_intermediate_size": s["expert_ffn"], "num_hidden_layers": s["layers"],
        "first_k_dense_replace": s["dense_layers"], "num_attention_heads": s["heads"],
        "num_key_value_heads": s["heads"], "q_lora_rank": s["q_lora"], "kv_lora_rank": s["kv_lora"],
        "qk_nope_head_dim": s["nope"], "qk_rope_head_dim": s["rope"], "v_head_dim": s["v"],
        "n_routed_experts": s["experts"], "num_experts_per_tok": s["top"], "n_shared_experts": s["shared"],
        "n_group": s["groups"], "topk_group": s["kept"], "norm_topk_prob": True, "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1, "attention_bias": False,
        "tie_word_embeddings": False, "num_nextn_predict_layers": 0, "rms_norm_eps": 1e-6, "rope_theta": 10000,
        "max_position_embeddings": 4096, "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "bfloat16",
    }
    if fp8:
        out["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                      "weight_block_size": [BLOCK, BLOCK]}
    return out


def tensors(s: dict):
    """(name, shape, kind): `matrix` may be coded, `plain` stays bf16, `gain` and `bias` are vectors."""
    hidden = s["hidden"]

    def mlp(prefix, inner):
        yield f"{prefix}.gate_proj.weight", [inner, hidden], "matrix"
        yield f"{prefix}.up_proj.weight", [inner, hidden], "matrix"
        yield f"{prefix}.down_proj.weight", [hidden, inner], "matrix"

    yield "model.embed_tokens.weight", [s["vocab"], hidden], "plain"
    for n in range(s["layers"]):
        layer = f"model.layers.{n}"
        attention = f"{layer}.self_attn"
        yield f"{layer}.input_layernorm.weight", [hidden], "gain"
        yield f"{attention}.q_a_proj.weight", [s["q_lora"], hidden], "matrix"
        yield f"{attention}.q_a_layernorm.weight", [s["q_lora"]], "gain"
        yield f"{attention}.q_b_proj.weight", [s["heads"] * (s["nope"] + s["rope"]), s["q_lora"]], "matrix"
        yield f"{attention}.kv_a_proj_with_mqa.weight", [s["kv_lora"] + s["rope"], hidden], "matrix"
        yield f"{attention}.kv_a_layernorm.weight", [s["kv_lora"]], "gain"
        yield f"{attention}.kv_b_proj.weight", [s["heads"] * (s["nope"] + s["v"]), s["kv_lora"]], "matrix"
        yield f"{attention}.o_proj.weight", [hidden, s["heads"] * s["v"]], "matrix"
        yield f"{layer}.post_attention_layernorm.weight", [hidden], "gain"
        if n < s["dense_layers"]:
            yield from mlp(f"{layer}.mlp", s["ffn"])
            continue
        yield f"{layer}.mlp.gate.weight", [s["experts"], hidden], "plain"
        yield f"{layer}.mlp.gate.e_score_correction_bias", [s["experts"]], "bias"
        for e in range(s["experts"]):
            yield from mlp(f"{layer}.mlp.experts.{e}", s["expert_ffn"])
        if s["shared"] > 0:
            yield from mlp(f"{layer}.mlp.shared_experts", s["shared"] * s["expert_ffn"])
    yield "model.norm.weight", [hidden], "gain"
    yield "lm_head.weight", [s["vocab"], hidden], "plain"


def e4m3_value(code: int) -> float:
    exponent, mantissa = code >> 3 & 15, code & 7
    return mantissa * 2.0 ** -9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)


def normal_codes() -> bytes:
    """For each byte of noise the e4m3 code nearest to a normal quantile: the tail reaches 448."""
    quantiles = [NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)]
    unit = 448 / quantiles[-1]
    finite = [(e4m3_value(c), c) for c in range(127)]
    return bytes(min(finite, key=lambda f: abs(f[0] - abs(q) * unit))[1] | (0x80 if q < 0 else 0) for q in quantiles)


CODES = normal_codes()
CODE_RMS = math.sqrt(sum(e4m3_value(c & 127) ** 2 for c in CODES) / 256)


def bf16_noise(noise: random.Random, count: int, size: float) -> bytes:
    """Signs and mantissas at random, exponents within two binades: root mean square about `size`."""
    exponent = 126 + round(math.log2(size))
    high = bytes((0x80 if b & 1 else 0) | (exponent - (b >> 1 & 1)) >> 1 for b in range(256))
    low = bytes(((exponent - (b >> 1 & 1)) & 1) << 7 for b in range(256))
    chosen = noise.randbytes(count)
    mantissas = noise.randbytes(count).translate(bytes(b & 127 for b in range(256)))
    out = bytearray(2 * count)
    bits = int.from_bytes(chosen.translate(low), "little") | int.from_bytes(mantissas, "little")
    out[0::2] = bits.to_bytes(count, "little")
    out[1::2] = chosen.translate(high)
    return bytes(out)


class Tensor:
    """One stored tensor: header fields and, piece by piece, its bytes."""

    def __init__(self, name: str, dtype: str, shape: list, make, seed: int):
        self.name, self.dtype, self.shape, self.make, self.seed = name, dtype, shape, make, seed
        self.width = {"BF16": 2, "F32": 4, "F8_E4M3": 1}[dtype]
        self.bytes = math.prod(shape) * self.width

    def pieces(self):
        noise = random.Random(f"{self.seed} {self.name}")
        left = math.prod(self.shape)
        while left > 0:
            count = min(left, PIECE // self.width)
            yield self.make(noise, count)
            left -= count


def floats(noise: random.Random, count: int, middle: float, spread: float) -> bytes:
    return struct.pack(f"<{count}f", *(middle + spread * (2 * noise.random() - 1) for _ in range(count)))


def stored(s: dict, fp8: bool, seed: int):
    for name, shape, kind in tensors(s):
        size = 1 / math.sqrt(shape[-1])
        if kind == "gain":
            yield Tensor(name, "BF16", shape, lambda _, n: struct.pack("<H", 0x3F80) * n, seed)
        elif kind == "bias":
            yield Tensor(name, "F32", shape, lambda noise, n: floats(noise, n, 0, 0.02), seed)
        elif kind == "plain" or not fp8:
            yield Tensor(name, "BF16", shape, lambda noise, n, size=size: bf16_noise(noise, n, size), seed)
        else:
            yield Tensor(name, "F8_E4M3", shape, lambda noise, n: noise.randbytes(n).translate(CODES), seed)
            blocks = [-(-d // BLOCK) for d in shape]
            scale = size / CODE_RMS
            yield Tensor(name + "_scale_inv", "F32", blocks,
                         lambda noise, n, scale=scale: floats(noise, n, scale, scale / 4), seed)


def write_shard(path: Path, shard: list) -> None:
    header, at = {}, 0
    for t in shard:
        header[t.name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [at, at + t.bytes]}
        at += t.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for t in shard:
            for piece in t.pieces():
                out.write(piece)


def split(all_tensors: list, shard_bytes: int) -> list:
    shards, room = [], 0
    for t in all_tensors:
        if not shards or t.bytes > room:
            shards.append([])
            room = max(shard_bytes, t.bytes)
        shards[-1].append(t)
        room -= t.bytes
    return shards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--fp8", action="store_true", help="e4m3 codes under scales of 128 x 128 blocks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard-bytes", type=int, default=4 << 30)
    parser.add_argument("--tokenizer", type=Path, help="directory to copy the tokenizer's files from")
    for name, value in SHAPES["small"].items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, help=f"in place of the shape's (small: {value})")
    args = parser.parse_args()

    shape = {name: value if getattr(args, name) is None else getattr(args, name)
             for name, value in SHAPES[args.shape].items()}
    args.directory.mkdir(parents=True)
    (args.directory / "config.json").write_text(json.dumps(config(shape, args.fp8), indent=1) + "\n")
    if args.tokenizer:
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            shutil.copy(args.tokenizer / name, args.directory)
    shards = split(list(stored(shape, args.fp8, args.seed)), args.shard_bytes)
    if len(shards) == 1:
        return write_shard(args.directory / "model.safetensors", shards[0])
    weight_map = {}
    for i, shard in enumerate(shards):
        name = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_shard(args.directory / name, shard)
        weight_map |= {t.name: name for t in shard}
    total = sum(t.bytes for shard in shards for t in shard)
    (args.directory / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=0) + "\n")


if __name__ == "__main__":
    main()
