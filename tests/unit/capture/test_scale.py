"""What a worker pays: memory of ten thousand sessions, and a late turn against an early one."""

from __future__ import annotations

import random
import time
import tracemalloc

from msgspec.structs import replace

from moorage.capture.call import Call
from moorage.capture.chain import decode_record, encode_record
from moorage.capture.tree import CallTree
from moorage.capture.verdict import Facts, place
from tests.unit.capture.sessions import draft

NEW, SAMPLED = 64, 128


def record(rng: random.Random, turn: int):
    """A call as it is read from a store: none of its values is shared with another's."""
    made = draft(
        call_id=f"{rng.getrandbits(128):032x}",
        request_id=f"{rng.getrandbits(128):032x}",
        session_id=f"{rng.getrandbits(128):032x}",
        parent=turn - 1 if turn else None,
        keep=(NEW + SAMPLED) * turn,
        prompt_key=rng.randbytes(16),
        reply_key=rng.randbytes(16),
        loose_reply_key=rng.randbytes(16),
        tools_digest=b"t" * 16,
        reasoning_digest=rng.randbytes(16),
    )
    made = replace(made, delta=rng.randbytes(4 * NEW), completion=rng.randbytes(4 * SAMPLED))
    return decode_record(encode_record(made))


def test_ten_thousand_sessions_of_four_calls_fit_in_eighty_megabytes():
    rng = random.Random(1)
    trees = []
    tracemalloc.start()
    try:
        for _ in range(200):
            tree = CallTree()
            for turn in range(4):
                tree.add(Call(record=record(rng, turn), seq=turn, step_index=turn, hash=bytes(32)))
            trees.append(tree)
        per_session_bytes = tracemalloc.get_traced_memory()[0] / len(trees)
    finally:
        tracemalloc.stop()
    assert per_session_bytes * 10_000 < 80e6


def test_turn_two_hundred_costs_what_turn_five_does_but_for_one_pass_over_its_memory():
    rng = random.Random(1)
    costs_s: dict[int, list[float]] = {}
    for _ in range(20):
        tree, keys, prompt = CallTree(), [], b""
        for turn in range(200):
            made = record(rng, turn)
            prompt += made.delta
            keys.append(made.prompt_key)
            call = Call(record=made, seq=turn, step_index=turn, hash=bytes(32))
            begun = time.perf_counter()
            found = tree.match(keys)
            boundary = place(tree, prompt, matched=found[0] if found else None, facts=Facts(replies=0))
            node = tree.add(call)
            costs_s.setdefault(turn, []).append(time.perf_counter() - begun)
            assert boundary.keep == made.keep
            assert turn == 0 or (boundary.verdict, found) == ("exact", (node.parent, 2 * turn))
            prompt += made.completion
            keys.append(made.reply_key)
        assert tree.path(node) == prompt
    early, late = min(costs_s[4]), min(costs_s[199])
    # 150 kB are compared once: about 4 µs. Anything done for each earlier call or message would cost ten times that.
    assert late < early + 50e-6
