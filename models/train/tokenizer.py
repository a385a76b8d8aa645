"""nano's tokenizer: byte-level pairs learnt from its own conversations. Digits and line ends are never merged."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

from models.train.chat import END, MARKS, PAD, START, chat_template, write
from models.train.data import Mix, conversations

VOCABULARY = 512
CONTEXT = 4096


def make_tokenizer(seed: int, samples: int = 4000) -> Any:
    """A `tokenizers.Tokenizer`; ids 0 to 255 are bytes. A piece of text that ends in a line end, or at a special
    token, gives the same ids alone and within a longer text."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    even = Mix(direct=1, lists=0.1, thinking=2, tools=3, talk=2, three_digits=0.1)
    texts = ("".join(piece for piece, _ in write(made)) for made in islice(conversations(seed, even), samples))
    stripped = (_without_marks(text) for text in texts)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKS) - 3,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stripped, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, START, END)])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKS])
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> Any:
    """Write the files that transformers and engines read. Returns transformers' tokenizer."""
    from transformers import PreTrainedTokenizerFast

    saved = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    saved.chat_template = chat_template()
    saved.save_pretrained(folder)
    _name_the_old_class(folder / "tokenizer_config.json")
    return saved


def _name_the_old_class(file: Path) -> None:
    """By a name that transformers before 5 knows too; with 5 it is the same class."""
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings.pop("backend", None)
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _without_marks(text: str) -> str:
    for mark in (PAD, START, END, *MARKS):
        text = text.replace(mark, "\n")
    return text
