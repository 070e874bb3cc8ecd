#!/usr/bin/env python3
"""Writes a checkpoint directory of a DeepSeek-V3 shape with seeded random bf16 weights and the tokenizer of
tests/data: for measuring speed where no trained model is at hand. The same arguments give the same bytes.

    make_random_model.py OUT [--layers 8] [--hidden 1024] [--context 8192] ..."""

import argparse
import json
import pathlib
import random
import shutil
import struct

DATA = pathlib.Path(__file__).resolve().parents[1] / "data"
SIZES = {"layers": 8, "dense_layers": 1, "hidden": 1024, "heads": 16, "q_lora": 768, "kv_lora": 512, "rope": 64, "nope": 128,
         "value": 128, "experts": 32, "top": 6, "shared": 1, "expert_inner": 768, "inner": 3072, "vocab": 32768,
         "context": 8192, "seed": 1}
# Bytes that carry a bf16 number's sign and upper exponent: random bits to +-2^-7 .. 2^-5, about 1 / sqrt(1024).
HIGH_BYTES = bytes(0xbc if byte & 1 else 0x3c for byte in range(256))


def config(s):
    return {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
            "hidden_size": s.hidden, "num_hidden_layers": s.layers, "first_k_dense_replace": s.dense_layers,
            "num_attention_heads": s.heads, "num_key_value_heads": s.heads, "q_lora_rank": s.q_lora,
            "kv_lora_rank": s.kv_lora, "qk_rope_head_dim": s.rope, "qk_nope_head_dim": s.nope, "v_head_dim": s.value,
            "n_routed_experts": s.experts, "num_experts_per_tok": s.top, "n_shared_experts": s.shared,
            "moe_intermediate_size": s.expert_inner, "moe_layer_freq": 1, "intermediate_size": s.inner, "n_group": 1,
            "topk_group": 1, "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True,
            "routed_scaling_factor": 2.5, "vocab_size": s.vocab, "max_position_embeddings": s.context,
            "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None, "hidden_act": "silu",
            "attention_bias": False, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1}


def gated(prefix, inner, hidden):
    return {prefix + "gate_proj.weight": [inner, hidden], prefix + "up_proj.weight": [inner, hidden],
            prefix + "down_proj.weight": [hidden, inner]}


def shapes(s):
    """Name -> shape, in the order of the file."""
    out = {"model.embed_tokens.weight": [s.vocab, s.hidden]}
    for n in range(s.layers):
        layer, attention = f"model.layers.{n}.", f"model.layers.{n}.self_attn."
        out |= {layer + "input_layernorm.weight": [s.hidden], attention + "q_a_proj.weight": [s.q_lora, s.hidden],
                attention + "q_a_layernorm.weight": [s.q_lora],
                attention + "q_b_proj.weight": [s.heads * (s.nope + s.rope), s.q_lora],
                attention + "kv_a_proj_with_mqa.weight": [s.kv_lora + s.rope, s.hidden],
                attention + "kv_a_layernorm.weight": [s.kv_lora],
                attention + "kv_b_proj.weight": [s.heads * (s.nope + s.value), s.kv_lora],
                attention + "o_proj.weight": [s.hidden, s.heads * s.value],
                layer + "post_attention_layernorm.weight": [s.hidden]}
        if n < s.dense_layers:
            out |= gated(layer + "mlp.", s.inner, s.hidden)
            continue
        out |= {layer + "mlp.gate.weight": [s.experts, s.hidden], layer + "mlp.gate.e_score_correction_bias": [s.experts]}
        for e in range(s.experts):
            out |= gated(f"{layer}mlp.experts.{e}.", s.expert_inner, s.hidden)
        out |= gated(layer + "mlp.shared_experts.", s.shared * s.expert_inner, s.hidden)
    return out | {"model.norm.weight": [s.hidden], "lm_head.weight": [s.vocab, s.hidden]}


def count(shape):
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def write_weights(path, s):
    tensors, header, at = shapes(s), {}, 0
    for name, shape in tensors.items():
        dtype, width = ("F32", 4) if name.endswith("bias") else ("BF16", 2)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + width * count(shape)]}
        at += width * count(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = random.Random(s.seed)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors.items():
            n = count(shape)
            if name.endswith("bias"):
                file.write(bytes(4 * n))
            elif len(shape) == 1:
                file.write(b"\x80\x3f" * n)
            else:
                data = bytearray(2 * n)
                data[0::2] = generator.randbytes(n)
                data[1::2] = generator.randbytes(n).translate(HIGH_BYTES)
                file.write(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    for name, default in SIZES.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    s = parser.parse_args()
    s.out.mkdir(parents=True, exist_ok=True)
    (s.out / "config.json").write_text(json.dumps(config(s), indent=1))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DATA / "tiny-distill" / name, s.out / name)
    write_weights(s.out / "model.safetensors", s)


if __name__ == "__main__":
    main()
