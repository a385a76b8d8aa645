"""One conversation: what is stored of it against what the engine said, what the client heard, and the views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from moorage.capture.retry import begin
from tests.campaigns.conversations.boundaries import unexplained
from tests.campaigns.conversations.reports import Report, Said, Sample
from tests.campaigns.conversations.talk import Message, Talk, Turn
from tests.campaigns.findings import Findings
from tests.campaigns.ledger import Ledger, StoredCall

__all__ = ["Comparison"]

MASKED = -100
NOT_SAMPLED = 1.0


class Comparison:
    """`said`: the engine's own words; `views`: nodes (of sessions) and steps."""

    def __init__(
        self,
        talk: Talk,
        options: Mapping[str, Any],
        views: Mapping[str, list[dict[str, Any]]],
        ledger: Ledger,
        said: Said,
        findings: Findings,
    ) -> None:
        self._talk, self._options, self._views = talk, options, views
        self._ledger, self._said, self._findings = ledger, said, findings
        self._of_turn = {place: self._calls_of(turn) for place, turn in enumerate(talk.turns)}

    def run(self) -> None:
        """Every difference is a fault of the findings."""
        for place, turn in enumerate(self._talk.turns):
            self._findings.count("requests")
            if turn.left:
                self._check_left(turn, self._of_turn[place])
            elif turn.heard:
                self._check_turn(turn, self._of_turn[place])
        known = {call.seq for calls in self._of_turn.values() for call in calls}
        for call in self._ledger.calls:
            self._findings.check(call.seq in known, f"{self._talk.name}: nobody asked for call {call.seq}")
        for turn, messages in self._talk.replays:
            self._check_replay(turn, messages)
        self._check_steps()
        if "nodes" in self._views:
            self._check_nodes()

    def _calls_of(self, turn: Turn) -> list[StoredCall]:
        """Those of the turn's very bytes, in the order in which they were committed, choices in theirs."""
        path = "/v1/chat/completions" if turn.messages else "/v1/completions"
        key = begin(path).plus(turn.body).digest()
        return [call for call in self._ledger.calls if call.record.retry_key == key]

    def _check_turn(self, turn: Turn, calls: Sequence[StoredCall]) -> None:
        findings, wanted = self._findings, len(turn.heard)
        findings.check(len(calls) == wanted, f"{turn.tag}: {len(calls)} calls are stored for {wanted} choices")
        for call in calls:
            report = self._said.take(turn.tag, call.prompt, partial(_same, call))
            if not findings.check(report is not None, f"{turn.tag}: call {call.seq} is not what the engine said"):
                continue
            self._count(turn, call)
            sent = report.sent if report is not None else None
            findings.check(sent is None or sent == call.prompt, f"{turn.tag}: other ids were sent than stored")
            fault = unexplained(turn, call, self._of_turn, self._talk.turns, self._ledger)
            findings.count("unexplained boundaries", int(fault is not None))
            findings.check(fault is None, f"{fault}")
        self._check_heard(turn, calls)

    def _count(self, turn: Turn, call: StoredCall) -> None:
        record, findings = call.record, self._findings
        findings.count("calls equal to the engine's report, id for id, logprob for logprob")
        findings.count("prompt ids compared", len(call.prompt))
        findings.count("sampled ids and logprobs compared", len(call.completion))
        why = f" {record.reason} (the script: {turn.change or 'nothing changed'})" if record.reason else ""
        findings.count(f"{record.mode}: {record.verdict}{why}")
        findings.check(record.delivered, f"{self._talk.name}: call {call.seq} is not delivered")

    def _check_heard(self, turn: Turn, calls: Sequence[StoredCall]) -> None:
        findings = self._findings
        for place, (heard, call) in enumerate(zip(turn.heard, calls, strict=False)):
            text = f"{heard.get('content')}{heard.get('reasoning')}"
            ours = call.record.mode == "exact"  # else the text is the engine's, passed on as it is
            findings.check("<|im_" not in text or not ours, f"{turn.tag}: special tokens in {text!r}")
            kept = call.reply if isinstance(call.reply, dict) else {"content": call.reply}
            same = _told(heard) == _told(kept)
            findings.check(same, f"{turn.tag}: the client heard {heard}, the record says {kept}")
            findings.count("replies heard as they are recorded", int(same))
            shown = turn.logprobs[place]
            findings.check(shown is None or shown == call.logprobs, f"{turn.tag}: the client was shown other logprobs")
            asked = turn.fields.get("logprobs")
            findings.check(bool(asked) == (shown is not None), f"{turn.tag}: logprobs asked {asked}, shown {shown}")
            told, stored = turn.finish_reasons[place], call.record.finish_reason
            right = told == stored or (told == "tool_calls" and bool(heard.get("tool_calls")))
            findings.check(right, f"{turn.tag}: told {told}, stored {stored}")
        if turn.usage is not None and turn.requests == 1 and calls:
            counts = (turn.usage["prompt_tokens"], turn.usage["completion_tokens"])
            sizes = (len(calls[0].prompt), sum(len(call.completion) for call in calls))
            findings.check(counts == sizes, f"{turn.tag}: usage says {counts}, stored are {sizes}")

    def _check_left(self, turn: Turn, calls: Sequence[StoredCall]) -> None:
        """Kept as far as it came, and never as delivered, unless the gateway had sent all of it."""
        self._findings.count("requests whose client went away")
        for call in calls:
            self._findings.count("of these, calls kept")
            matches = partial(_same if call.record.delivered else _begins, call)
            right = self._said.take(turn.tag, call.prompt, matches) is not None
            self._findings.check(right, f"{turn.tag}: call {call.seq} is no beginning of what the engine said")

    def _check_replay(self, turn: Turn, messages: Sequence[Message]) -> None:
        same = [_told(one) for one in messages] == [_told(one) for one in turn.heard]
        self._findings.check(same, f"{turn.tag}: a retry was answered {messages}, not {turn.heard}")
        self._findings.count("retries replayed", int(same))

    def _check_steps(self) -> None:
        """Each call as a step: the joined deltas are its prompt and response."""
        calls = {
            call.record.step_index if call.record.step_index is not None else call.seq: call
            for call in self._ledger.calls
        }
        shown = {step["step_index"]: step for step in self._views.get("steps", ())}
        for index, call in calls.items():
            step = shown.get(index)
            if step is None:
                self._findings.check(not call.record.delivered, f"{self._talk.name}: step {index} is not shown")
                continue
            same = (step["prompt_ids"], step["response_ids"], step["rollout_log_probs"])
            right = same == (call.prompt, call.completion, call.logprobs)
            right = right and step.get("delivered", True) == call.record.delivered
            self._findings.check(right, f"{self._talk.name}: step {index} is not its call")
            self._findings.count("steps equal to their calls", int(right))

    def _check_nodes(self) -> None:
        nodes = {node["metadata"]["call_id"]: node for node in self._views["nodes"]}
        wanted = {call.record.call_id: call for call in self._ends()}
        self._findings.check(nodes.keys() == wanted.keys(), f"{self._talk.name}: the nodes are not the leaves")
        for call_id in nodes.keys() & wanted.keys():
            node, call = nodes[call_id], wanted[call_id]
            masked, logprobs = self._masks(call)
            right = node["tokens"] == call.path
            right = right and (node["masked_tokens"], node["logprobs"]) == (masked, logprobs)
            self._findings.check(right, f"{self._talk.name}: the node of call {call.seq} is not its path")
            self._findings.count("nodes equal to joined deltas", int(right))

    def _ends(self) -> list[StoredCall]:
        """All delivered calls with `track_tree`, else those that no delivered one goes on from with its whole path."""
        calls = [call for call in self._ledger.calls if call.record.delivered]
        if self._options.get("track_tree"):
            return calls
        gone_on = {
            call.record.parent
            for call in calls
            if call.record.parent is not None and call.record.keep == len(self._ledger.calls[call.record.parent].path)
        }
        return [call for call in calls if call.seq not in gone_on]

    def _masks(self, end: StoredCall) -> tuple[list[int], list[float]]:
        """What of a node's tokens was sampled on the way to it, and how likely that was."""
        masked, logprobs = [MASKED] * len(end.path), [NOT_SAMPLED] * len(end.path)
        call, upto = end, len(end.path)
        while True:
            if len(call.path) <= upto and call.record.delivered:
                masked[len(call.prompt) : len(call.path)] = call.completion
                logprobs[len(call.prompt) : len(call.path)] = call.logprobs or []
            if call.record.parent is None:
                return masked, logprobs
            upto = min(upto, call.record.keep)
            call = self._ledger.calls[call.record.parent]


def _same(call: StoredCall, report: Report, sample: Sample) -> bool:
    return (call.prompt, call.completion, call.logprobs) == (report.prompt, sample.ids, sample.logprobs)


def _begins(call: StoredCall, report: Report, sample: Sample) -> bool:
    length = len(call.completion)
    whole = (call.prompt, call.completion, call.logprobs)
    return whole == (report.prompt, sample.ids[:length], sample.logprobs[:length])


def _told(message: Message) -> tuple[object, ...]:
    calls = [one["function"] for one in message.get("tool_calls") or ()]
    return message.get("content") or "", message.get("reasoning") or None, calls
