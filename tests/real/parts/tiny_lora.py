"""A LoRA adapter for models/nano, written byte by byte: random, strong enough to change what is said."""

from __future__ import annotations

import array
import json
import random
import struct
from pathlib import Path

RANK = 4
LORA_ALPHA = 8


def make_tiny_lora(model: Path, folder: Path, *, seed: int = 0, scale: float = 0.5) -> Path:
    """Make an adapter of rank 4 on the attention of `model`; its folder."""
    config = json.loads((model / "config.json").read_text())
    hidden, heads, kv_heads = (config[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    head = config.get("head_dim") or hidden // heads
    shapes = {"q_proj": (hidden, heads * head), "v_proj": (hidden, kv_heads * head), "o_proj": (heads * head, hidden)}
    chance = random.Random(seed)
    tensors: dict[str, tuple[tuple[int, int], bytes]] = {}
    for layer in range(config["num_hidden_layers"]):
        for name, (inner, outer) in shapes.items():
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{place}.lora_A.weight"] = _matrix(RANK, inner, chance, scale)
            tensors[f"{place}.lora_B.weight"] = _matrix(outer, RANK, chance, scale)
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(_safetensors(tensors))
    told = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": LORA_ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(shapes),
        "base_model_name_or_path": str(model),
        "inference_mode": True,
        "fan_in_fan_out": False,
        "modules_to_save": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


def _matrix(rows: int, columns: int, chance: random.Random, scale: float) -> tuple[tuple[int, int], bytes]:
    values = array.array("f", (chance.gauss(0, scale) for _ in range(rows * columns)))
    return (rows, columns), values.tobytes()


def _safetensors(tensors: dict[str, tuple[tuple[int, int], bytes]]) -> bytes:
    """The format of the safetensors library: a length, a JSON header, and the values one after another."""
    header: dict[str, object] = {}
    body = b""
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body
