"""What the check of a template finds of every family: its verdict, and the codes."""

from __future__ import annotations

MISTRAL = {
    *("tools_moved", "system_moved", "system_midway_refused", "reasoning_unread", "tool_calls_reserialised"),
    *("call_content_dropped", "content_trimmed", "consecutive_users_refused", "consecutive_assistants_refused"),
    *("assistant_first_refused", "call_ids_refused", "prefill_trimmed", "parts_joined"),
    "special_text",
}
FOUND: dict[str, tuple[str, set[str]]] = {
    "nano": ("exact", {"tool_calls_reserialised", "special_text"}),
    "qwen3": (
        "exact",
        {
            *("thoughts_stripped", "generation_prompt_differs", "last_turn_differs", "tool_calls_reserialised"),
            *("parts_joined", "special_text"),
        },
    ),
    "thinker": (
        "exact",
        {
            *("thoughts_stripped", "generation_prompt_differs", "content_trimmed", "tools_unwritten"),
            *("tool_calls_unwritten", "prefill_opened_otherwise", "parts_joined", "special_text"),
        },
    ),
    "llama3": (
        "exact",
        {
            *("reasoning_unread", "tool_calls_reserialised", "call_content_dropped", "content_trimmed"),
            *("date_in_prompt", "system_invented", "parallel_calls_refused", "prefill_trimmed", "input_trimmed"),
            *("parts_joined", "special_text"),
        },
    ),
    "mistral-always": ("exact with branches", MISTRAL),
    "mistral-first": ("exact with branches", MISTRAL),
    "mistral-legacy": ("exact with branches", MISTRAL | {"prefill_opened_otherwise"}),
    "deepseek": (
        "exact with branches",
        {
            *("system_midway_moved", "thoughts_stripped", "tool_calls_reserialised", "tools_unwritten"),
            *("parts_joined", "special_text"),
        },
    ),
    "glm": (
        "exact with branches",
        {
            *("end_names_speaker", "thoughts_stripped", "tool_calls_reserialised", "content_trimmed"),
            *("prefill_trimmed", "parts_joined", "special_text"),
        },
    ),
    "gemma": (
        "exact",
        {
            *("reasoning_unread", "content_trimmed", "system_refused", "consecutive_users_refused"),
            *("consecutive_assistants_refused", "assistant_first_refused", "tools_unwritten"),
            *("tool_results_refused", "prefill_trimmed", "input_trimmed", "parts_joined", "special_text"),
        },
    ),
    "harmony": (
        "exact",
        {
            *("reasoning_unread", "tool_calls_reserialised", "date_in_prompt", "system_invented"),
            *("turn_end_not_stop", "parts_joined", "special_text"),
        },
    ),
}
