"""Small tokenizers of the kinds that models have, trained here on a few sentences."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

WORDS = r"\p{N}{1,3}| ?[\p{L}]+|\s*[\r\n]+|\s+(?!\S)| ?[^\s\p{L}\p{N}]+|\s+"

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and then the dog jumps over the fox.",
    "What is the weather in Paris today? It is sunny, with 21 degrees.",
    '{"name": "get_weather", "arguments": {"city": "Paris"}}',
    "I think, therefore I am. Let me think about that.\n\nThe answer is 42.\n",
    "user assistant system tool functions commentary analysis final json model developer",
    "<think>\nthinking\n</think>\n\n<tool_call>\n</tool_call> <tool_response>\n",
    "Ünïcödé, naïve café, 你好世界 🙂 and more of it; ähnlich wie öfter.",
] * 3


def byte_level(special: list[str], plain: list[str] = [], **flags: Any) -> bytes:  # noqa: B006 - never changed
    """As GPT-2, Llama 3 and Qwen have it: bytes as letters, no dummy prefix."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r"\p{N}{1,3}| ?[\p{L}]+|\s*[\r\n]+|\s+(?!\S)| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return _with_added(made, special, plain, **flags)


def sentence_piece(special: list[str], plain: list[str] = [], *, scheme: str) -> bytes:  # noqa: B006 - never changed
    """As Llama 2, Mistral and Gemma have it: U+2581 for spaces, bytes as <0xE2>, a dummy prefix by `scheme`.

    "always" and "first" are those of Metaspace; "legacy" is the Prepend normalizer; "never" is Gemma's.
    """
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    trainer = trainers.BpeTrainer(vocab_size=380, special_tokens=["<unk>"], show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    strip = [] if scheme == "never" else [decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    if scheme in ("always", "first"):
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    else:
        first = [normalizers.Prepend("▁")] if scheme == "legacy" else []
        made.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
        made.pre_tokenizer = None
    spec = json.loads(made.to_str())
    vocab = spec["model"]["vocab"]
    for byte in range(256):
        vocab.setdefault(f"<0x{byte:02X}>", len(vocab))
    return _with_added(Tokenizer.from_str(json.dumps(spec)), special, plain)


def _with_added(made: Tokenizer, special: list[str], plain: list[str], **flags: Any) -> bytes:
    made.add_special_tokens([AddedToken(text, normalized=False, special=True, **flags) for text in special])
    made.add_tokens([AddedToken(text, normalized=False) for text in plain])
    return made.to_str().encode()
