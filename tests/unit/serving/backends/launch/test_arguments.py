"""Engine arguments as words of a command line."""

from __future__ import annotations

import pytest

from moorage.serving.backends.launch.arguments import command_words


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({}, ()),
        ({"max_model_len": 2048}, ("--max-model-len=2048",)),
        ({"gpu_memory_utilization": 0.9}, ("--gpu-memory-utilization=0.9",)),
        ({"enforce_eager": True}, ("--enforce-eager",)),
        ({"enable_prefix_caching": False}, ("--no-enable-prefix-caching",)),
        ({"quantization": None}, ()),
        ({"dtype": "float32"}, ("--dtype=float32",)),
        ({"chat_template": "--port"}, ("--chat-template=--port",)),
        ({"hf_overrides": {"a": [1]}}, ('--hf-overrides={"a":[1]}',)),
        ({"middleware": ["a", "b"]}, ("--middleware", "a", "b")),
        ({"middleware": []}, ()),
        ({"b": 1, "a": True}, ("--a", "--b=1")),
    ],
)
def test_each_kind_of_value(kwargs, words):
    assert command_words(kwargs) == words


def test_a_flag_that_only_says_true_is_left_away_for_false():
    """vLLM has no `--no-disable-log-stats`: it is false without a flag."""
    told = {"disable_log_stats": False, "enforce_eager": False}
    assert command_words(told, {"disable_log_stats"}) == ("--no-enforce-eager",)
    assert command_words({"disable_log_stats": True}, {"disable_log_stats"}) == ("--disable-log-stats",)
