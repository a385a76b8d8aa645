"""One call as the worker's memory keeps it: slim, since ten thousand sessions are live at once."""

from __future__ import annotations

import sys

from moorage.capture.call import Call, Mode, Reason, Verdict
from moorage.capture.strand import Strand, read_path

__all__ = ["Node"]


class Node:
    """One committed call, without its texts and log probabilities: those stay in the store."""

    __slots__ = (
        "choice",
        "delivered",
        "finish_reason",
        "keep",
        "loose_reply_key",
        "mode",
        "parent",
        "path_tokens",
        "prompt_key",
        "prompt_tokens",
        "reason",
        "reasoning_digest",
        "reply_key",
        "request_id",
        "seq",
        "stop_token",
        "strand",
        "tools_digest",
        "verdict",
    )

    def __init__(self, call: Call, parent: Node | None, strand: Strand, prompt_tokens: int, path_tokens: int) -> None:
        record = call.record
        self.seq = call.seq
        self.parent = parent
        self.keep: int = record.keep
        """Tokens of the parent's path that the prompt begins with; 0 without a parent."""
        self.prompt_tokens = prompt_tokens
        """Length of the whole prompt."""
        self.path_tokens: int = path_tokens
        """Length of prompt and completion."""
        self.strand = strand
        """Where the path ends, at its position `path_tokens`."""
        self.prompt_key = record.prompt_key
        """Key of the request's messages; empty for token and text prompts."""
        self.reply_key = record.reply_key
        """The same with the reply; empty: no request can match it by messages."""
        self.loose_reply_key = record.loose_reply_key or record.reply_key
        self.tools_digest = record.tools_digest
        if parent is not None:
            self._share(parent)
        self.reasoning_digest = record.reasoning_digest
        """Empty: no reasoning beside the content."""
        self.finish_reason = sys.intern(record.finish_reason)
        self.stop_token = record.stop_token
        self.delivered = record.delivered
        self.mode: Mode = record.mode
        self.verdict: Verdict = record.verdict
        self.reason: Reason | None = record.reason
        self.request_id = record.request_id
        self.choice = record.choice

    def _share(self, parent: Node) -> None:
        """Take equal values from the parent, so that they are in memory once."""
        if self.keep == parent.path_tokens:
            self.keep = parent.path_tokens
        if self.tools_digest == parent.tools_digest:
            self.tools_digest = parent.tools_digest

    @property
    def delta(self) -> bytes:
        """[prompt_tokens - keep] uint32: what the prompt adds to what it keeps of the parent's path."""
        return read_path((self.strand, self.prompt_tokens), self.keep)

    @property
    def completion(self) -> bytes:
        """[path_tokens - prompt_tokens] uint32: what was sampled."""
        return read_path((self.strand, self.path_tokens), self.prompt_tokens)

    @property
    def extends(self) -> bool:
        """The prompt begins with the parent's whole path: the parent's chain goes on."""
        return self.parent is not None and self.keep == self.parent.path_tokens
