"""From trained weights to a folder that transformers and engines load, and the model card in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from string import Template
from typing import Any

from models.train.chat import END, PAD
from models.train.model import EPSILON, THETA, Nano
from models.train.tokenizer import CONTEXT, save_tokenizer

CARD = Path(__file__).with_name("card.md")
LARGEST_BYTES = 8 * 1024 * 1024


def export(network: Nano, tokenizer: Any, folder: Path, dtype: str = "float16") -> None:
    """Replace `folder` as a whole: half-written it is never seen under its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        saved = save_tokenizer(tokenizer, unfinished)
        _save_network(network, saved, unfinished, dtype)
        size = sum(file.stat().st_size for file in unfinished.iterdir())
        if size > LARGEST_BYTES:
            raise ValueError(f"{size} bytes are more than the {LARGEST_BYTES} that a committed model may have")
        unfinished.chmod(0o755)
        for file in unfinished.iterdir():
            file.chmod(0o644)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _save_network(network: Nano, saved: Any, folder: Path, dtype: str) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    end, pad = saved.convert_tokens_to_ids([END, PAD])
    config = Qwen3Config(
        **network.shape.as_config(),
        max_position_embeddings=CONTEXT,
        rms_norm_eps=EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = Qwen3ForCausalLM(config)
    missing, unexpected = model.load_state_dict(network.state_dict(), strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"the network does not fit a Qwen3: {missing} missing, {unexpected} unknown")
    model.tie_weights()
    model = model.to(getattr(torch, dtype))
    # No sampling defaults: an engine would apply them to requests that set none, unseen by who trains on the result.
    model.generation_config = GenerationConfig(eos_token_id=[end, pad], pad_token_id=pad)
    model.save_pretrained(folder)


def write_card(folder: Path, facts: dict[str, str]) -> None:
    """The model card from its template; every `$name` in it must be among `facts`."""
    (folder / "README.md").write_text(Template(CARD.read_text(encoding="utf-8")).substitute(facts), encoding="utf-8")
