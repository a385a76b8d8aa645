#!/usr/bin/env python3
"""Make a tiny Qwen3 with random weights, a byte-level BPE tokenizer and a ChatML template: a model that a real engine
loads, serves and streams like any other, in a megabyte, without a network. What it says is noise.

    ENGINE_PYTHON models/train/tiny_random.py OUT [--dtype float32|bfloat16|float16]

Runs under an engine's Python, where torch, tokenizers and transformers are. OUT must not exist; it appears whole or
not at all. The same script gives the same tokenizer and the same weights (for one version of torch): the text that the
tokenizer learns from is this file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VOCABULARY = 512
CONTEXT = 4096
SEED = 20

CHAT_TEMPLATE = """\
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set text = message.content %}
    {%- else %}
        {%- set parts = (message.content or []) | selectattr('type', 'equalto', 'text') | map(attribute='text') %}
        {%- set text = parts | join('') %}
    {%- endif %}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ text ~ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make a tiny random Qwen3 that a real engine serves.")
    parser.add_argument("out", type=Path, help="the folder to make; must not exist")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    options = parser.parse_args(arguments)
    if options.out.exists():
        parser.error(f"{options.out} exists already")

    options.out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{options.out.name}.", dir=options.out.parent))
    try:
        tokenizer = save_tokenizer(unfinished)
        parameters = save_model(unfinished, tokenizer, options.dtype)
        publish(unfinished, options.out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)

    size = sum(file.stat().st_size for file in options.out.iterdir())
    sys.stdout.write(json.dumps({"model": str(options.out), "parameters": parameters, "bytes": size}) + "\n")
    return 0


def publish(unfinished: Path, out: Path) -> None:
    """Give the folder its name, readable to a container's user too. One that another run made meanwhile is as good."""
    unfinished.chmod(0o755)
    for file in unfinished.iterdir():
        file.chmod(0o644)
    try:
        unfinished.rename(out)
    except OSError:
        if not (out / "config.json").exists():
            raise


def save_tokenizer(folder: Path) -> Any:
    """A tokenizer in which every byte has a token, so that no text is out of its vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = [AddedToken(token, special=True, normalized=False) for token in (PAD, START, END)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator([Path(__file__).read_text(encoding="utf-8")], trainer)
    bpe.add_special_tokens(specials)

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_model(folder: Path, tokenizer: Any, dtype: str) -> int:
    """Random weights in the smallest shape that vLLM's attention takes. Returns the number of parameters."""
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    end, pad = tokenizer.convert_tokens_to_ids([END, PAD])
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    torch.manual_seed(SEED)
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        # Their logit is always 0 and some other is always above it: a greedy answer is noise that a terminal can show.
        model.lm_head.weight[unreadable_tokens(tokenizer)] = 0
    model = model.to(getattr(torch, dtype))
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad)
    model.save_pretrained(folder)
    return sum(weights.numel() for weights in model.parameters())


def unreadable_tokens(tokenizer: Any) -> list[int]:
    """Special tokens, parts of characters, and control characters."""
    texts = {number: tokenizer.decode([number]) for number in range(VOCABULARY)}
    return [
        number
        for number, text in texts.items()
        if number in tokenizer.all_special_ids or not text.isprintable() or "\ufffd" in text
    ]


if __name__ == "__main__":
    # A model folder must never be fetched from a hub by mistake.
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.exit(main())
