"""Several engines behind one gateway: which may be recorded, what becomes of faults, and how likely prompts are."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.contract.gateway_calls import check_openai, events_of, init, send_and_leave, steps_of
from tests.contract.gateway_engines import SAMPLING, Engine, engines_behind, entries, ids_of, talk
from tests.contract.gateway_process import wait_until
from tests.stand_ins.engine_stub import Fault
from tests.stand_ins.hosted_server import TEXT, HostedServer
from tests.stand_ins.sglang_server import SglangServer
from tests.stand_ins.trl_server import TrlServer

HI = {"messages": [{"role": "user", "content": "Hi."}], **SAMPLING}


def test_a_session_stays_exact_when_it_moves_to_an_engine_of_another_kind(nano: Path, tmp_path: Path) -> None:
    with engines_behind(tmp_path, nano, Engine("vllm"), Engine("sglang"), Engine("trl")) as (gateway, stubs):
        by_url = {stub.url: stub for stub in stubs}
        made = gateway.post("/sessions/create", {}).json()
        messages: list[dict[str, Any]] = []
        homes = []
        for turn in ("One.", "Two.", "Three."):
            messages.append({"role": "user", "content": turn})
            reply = gateway.post(f"/{made['uuid']}/v1/chat/completions", {"messages": messages, **SAMPLING})
            assert reply.status_code == 200, reply.text
            messages.append(reply.json()["choices"][0]["message"])
            [row] = gateway.get("/sessions").json()["sessions"]
            homes.append(row["base_url"])
            if turn != "Three.":
                by_url[homes[-1]].vanish()
        assert len(set(homes)) == 3, homes
        [node] = gateway.get(f"/{made['uuid']}/nodes").json()["nodes"]
        assert [one["verdict"] for one in node["metadata"]["boundaries"]] == ["root", "exact", "exact"]
        assert node["metadata"]["mode"] == "exact"


def test_no_session_goes_where_no_ids_come_from(nano: Path, tmp_path: Path) -> None:
    with engines_behind(tmp_path, nano, Engine("openai"), Engine("vllm"), Engine("openai")) as (gateway, stubs):
        for _ in range(3):
            made = gateway.post("/sessions/create", {}).json()
            assert made["base_url"] == stubs[1].url
            talk(gateway, made["uuid"], "Hi.")
        pinned = gateway.post("/sessions/create", {"base_url": stubs[0].url})
        check_openai(pinned, 400, "engine_gives_no_token_ids")
        stubs[1].vanish()
        made = init(gateway)
        said = gateway.post(f"{made['path']}/v1/chat/completions", HI)
        assert said.status_code == 503, said.text
        assert steps_of(gateway, made["trajectory_uid"]) == []
        for _ in range(3):
            assert gateway.post("/v1/chat/completions", HI).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_placeholders_are_marked_everywhere(nano: Path, tmp_path: Path, stream: bool) -> None:
    with engines_behind(tmp_path, nano, Engine("openai"), flags=("--allow-dummy",)) as (gateway, _):
        made = gateway.post("/sessions/create", {}).json()
        assert made["dummy"] is True
        assert made["mode"] == "passthrough"
        for _ in range(2):
            reply = gateway.post(f"/{made['uuid']}/v1/chat/completions", {**HI, "stream": stream})
            assert reply.status_code == 200, reply.text
            if stream:
                events = events_of(reply.text.split("\n"))
                assert events[-1] == "[DONE]"
                assert all(json.loads(one)["dummy"] is True for one in events[:-1])
            else:
                assert reply.json()["dummy"] is True
                assert reply.json()["choices"][0]["message"]["content"] == TEXT
        nodes = gateway.get(f"/{made['uuid']}/nodes").json()["nodes"]
        assert len(nodes) == 2
        for node in nodes:
            assert node["metadata"]["dummy"] is True
            assert node["tokens"] == list(range(128))
            assert node["masked_tokens"] == [-100, *range(1, 128)]
            assert node["full_text"].startswith("user:Hi.")
        made = init(gateway)
        reply = gateway.post(f"{made['path']}/v1/chat/completions", {**HI, "stream": stream})
        assert reply.status_code == 200, reply.text
        [step] = steps_of(gateway, made["trajectory_uid"])
        assert step["metadata"]["dummy"] is True
        gateway.post(f"/complete_trajectory/{made['trajectory_uid']}", {"reward": 1.0})
        leased = gateway.post("/pool/lease", {"max_groups": 1, "wait_s": 0}).json()
        assert [step for one in leased["leases"] for run in one["trajectories"] for step in run["steps"]] == []


def test_without_leave_there_are_no_placeholders(nano: Path, tmp_path: Path) -> None:
    with engines_behind(tmp_path, nano, Engine("openai")) as (gateway, _):
        error = check_openai(gateway.post("/sessions/create", {}), 400, "engine_gives_no_token_ids")
        assert "--allow-dummy" in error["message"]
        made = init(gateway)
        reply = gateway.post(f"{made['path']}/v1/chat/completions", HI)
        check_openai(reply, reply.status_code, "engine_gives_no_token_ids")
        assert reply.status_code in (400, 502)
        assert gateway.post("/v1/chat/completions", HI).json()["choices"][0]["message"]["content"] == TEXT


def test_an_unfinished_reply_leaves_no_placeholders(nano: Path, tmp_path: Path) -> None:
    engine = Engine("openai", HostedServer(ends=False))
    with engines_behind(tmp_path, nano, engine, flags=("--allow-dummy",)) as (gateway, _):
        uid = gateway.post("/sessions/create", {}).json()["uuid"]
        check_openai(gateway.post(f"/{uid}/v1/chat/completions", HI), 502, "engine_aborted")
        assert gateway.get(f"/{uid}/nodes").json()["nodes"] == []


def test_faults_of_sglang_and_trl_leave_no_node(nano: Path, tmp_path: Path) -> None:
    sglang, trl = SglangServer(nano), TrlServer(nano)
    with engines_behind(tmp_path, nano, Engine("sglang", sglang), Engine("trl", trl)) as (gateway, stubs):
        uids = [gateway.post("/sessions/create", {"base_url": stub.url}).json()["uuid"] for stub in stubs]
        sglang.aborts = True
        check_openai(gateway.post(f"/{uids[0]}/v1/chat/completions", HI), 502, "engine_aborted")
        streamed = gateway.post(f"/{uids[0]}/v1/chat/completions", {**HI, "stream": True})
        assert "engine_aborted" in streamed.text
        sglang.aborts, sglang.prompt_tokens_off = False, 1
        check_openai(gateway.post(f"/{uids[0]}/v1/chat/completions", HI), 502, "prompt_changed_by_engine")
        sglang.prompt_tokens_off = 0
        trl.drops_logprob = True
        check_openai(gateway.post(f"/{uids[1]}/v1/chat/completions", HI), 502, "short_logprobs")
        trl.drops_logprob = False
        unknown = gateway.post(f"/{uids[0]}/v1/chat/completions", {**HI, "best_guess": 1})
        assert unknown.status_code == 400
        assert "best_guess" in unknown.text
        for uid in uids:
            assert ids_of(gateway, uid) == []
            talk(gateway, uid, "Hi.")
            assert len(ids_of(gateway, uid)) == 1


def test_what_no_engine_can_be_told_is_refused_and_the_session_goes_on(nano: Path, tmp_path: Path) -> None:
    with engines_behind(tmp_path, nano, Engine("sglang"), Engine("trl")) as (gateway, stubs):
        for stub in stubs:
            uid = gateway.post("/sessions/create", {"base_url": stub.url}).json()["uuid"]
            for said in ('"response_format":{"type":"json_schema","json_schema":"x"}', '"max_tokens":1e999'):
                body = '{"messages":[{"role":"user","content":"Hi."}],' + said
                for raw in (body + "}", body + ',"stream":true}'):
                    reply = gateway.http.post(f"{gateway.url}/{uid}/v1/chat/completions", raw, timeout=60)
                    check_openai(reply, 400, "body_wrong")
            assert ids_of(gateway, uid) == []
            talk(gateway, uid, "Hi.")


def test_the_weights_that_sampled(nano: Path, tmp_path: Path) -> None:
    sglang = SglangServer(nano)
    sglang.weight_version = "v7"
    with engines_behind(tmp_path, nano, Engine("sglang", sglang)) as (gateway, _):
        uid = gateway.post("/sessions/create", {}).json()["uuid"]
        talk(gateway, uid, "Hi.")
        assert gateway.post(f"/{uid}/v1/chat/completions", {**HI, "stream": True}).status_code == 200
        nodes = gateway.get(f"/{uid}/nodes").json()["nodes"]
        assert [node["metadata"]["weight_version"] for node in nodes] == [7, 7]


def test_trl_without_a_tokenizer_says_what_is_missing(nano: Path, tmp_path: Path) -> None:
    with engines_behind(tmp_path, nano, Engine("trl"), tokenizer=False) as (gateway, _):
        uid = gateway.post("/sessions/create", {}).json()["uuid"]
        reply = gateway.post(f"/{uid}/v1/chat/completions", HI)
        assert reply.json()["error"]["code"] == "tokenizer_missing", reply.text
        assert gateway.get(f"/{uid}/nodes").json()["nodes"] == []


@pytest.mark.parametrize("mode", ["exact", "passthrough"])
def test_n_where_an_engine_ignores_it(nano: Path, tmp_path: Path, mode: str) -> None:
    class One(SglangServer):
        """It gives one choice whatever `n` says."""

        def __call__(self, path: str, body: bytes) -> Any:
            said = json.loads(body)
            said.pop("n", None)
            (said.get("sampling_params") or {}).pop("n", None)
            return super().__call__(path, json.dumps(said).encode())

    engine = Engine("sglang", One(nano), {"n_kwarg_is_ignored": True})
    with engines_behind(tmp_path, nano, engine) as (gateway, stubs):
        uid = gateway.post("/sessions/create", {"mode": mode}).json()["uuid"]
        reply = gateway.post(f"/{uid}/v1/chat/completions", {**HI, "n": 5})
        assert reply.status_code == 200, reply.text
        assert [one["index"] for one in reply.json()["choices"]] == [0, 1, 2, 3, 4]
        assert len(gateway.get(f"/{uid}/nodes").json()["nodes"]) == 5
        assert len(stubs[0].requests) == 5


def test_n_on_the_open_routes_where_a_host_ignores_it(nano: Path, tmp_path: Path) -> None:
    engine = Engine("openai", HostedServer(ignores_n=True), {"n_kwarg_is_ignored": True})
    with engines_behind(tmp_path, nano, engine) as (gateway, stubs):
        said = gateway.post("/v1/chat/completions", {**HI, "n": 4}).json()
        assert [one["index"] for one in said["choices"]] == [0, 1, 2, 3]
        assert said["usage"] == {"prompt_tokens": 9, "completion_tokens": 28, "total_tokens": 37}
        assert [json.loads(one.body)["n"] for one in stubs[0].requests] == [1] * 4
        stubs[0].spoil(Fault("status", 429, headers={"retry-after": "3"}))
        assert gateway.post("/v1/chat/completions", {**HI, "n": 4}).status_code == 429


def test_train_and_eval_have_slots_of_their_own(nano: Path, tmp_path: Path) -> None:
    fields = {"num_max_requests_at_once": 1, "num_requests_for_eval": 1}
    with engines_behind(tmp_path, nano, Engine("vllm", None, fields)) as (gateway, stubs):
        stubs[0].spoil(Fault("silence"))
        stuck = threading.Thread(target=lambda: gateway_post(gateway.url, HI), daemon=True)
        stuck.start()
        wait_until(lambda: slots(gateway)["train"]["taken"] == 1)
        said = gateway.post("/v1/chat/completions", HI, headers={"x-moorage-split": "eval"})
        assert said.status_code == 200
        uid = gateway.post("/sessions/create", {"split": "eval"}).json()["uuid"]
        talk(gateway, uid, "Hi.")
        row = gateway.get("/servers").json()["servers"][0]
        assert row["statistics"]["eval"]["requests"] >= 2
        assert row["statistics"]["train"]["requests"] == 0
        assert row["statistics"]["eval"]["p99_s"] >= row["statistics"]["eval"]["mean_s"] > 0


def gateway_post(url: str, body: Any) -> None:
    with contextlib.suppress(requests.ConnectionError):
        requests.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def slots(gateway: Any) -> Any:
    return gateway.get("/servers").json()["servers"][0]["slots"]


def test_other_servers_while_it_runs(nano: Path, tmp_path: Path) -> None:
    engines = (Engine("vllm"), Engine("sglang"), Engine("openai"))
    with engines_behind(tmp_path, nano, *engines) as (gateway, stubs):
        listed = entries(engines, stubs)
        for wrong in (
            {"servers": [{**listed[0], "server_type": "llama"}]},
            {"servers": [{**listed[0], "weight": 0}]},
            {"servers": [{**listed[0], "num_requests_for_eval": 0}]},
            {"servers": [{**listed[0], "api_version": "a b"}]},
            {"servers": [{"server_type": "vllm"}]},
            {"servers": [listed[0], listed[0]]},
            {"servers": [{**listed[0], "api_key_env": "MOORAGE_NO_SUCH_KEY"}]},
        ):
            said = gateway.post("/setup", wrong)
            assert said.status_code in (400, 401, 422), (wrong, said.text)
            assert len(gateway.get("/servers").json()["servers"]) == 3
        assert gateway.post("/setup", {"servers": listed[1:]}).json()["servers"] == 2
        rows = gateway.get("/servers").json()["servers"]
        assert [row["server_type"] for row in rows] == ["sglang", "openai"]
        assert [row["gives_token_ids"] for row in rows] == [True, False]
        talk(gateway, gateway.post("/sessions/create", {}).json()["uuid"], "Hi.")


def test_log_probabilities_of_a_prompt(nano: Path, tmp_path: Path) -> None:
    with engines_behind(tmp_path, nano, Engine("openai"), Engine("sglang"), Engine("trl")) as (gateway, stubs):
        uid = gateway.post("/sessions/create", {"base_url": stubs[1].url}).json()["uuid"]
        rendered = gateway.post(f"/{uid}/v1/chat/completions/render", HI).json()["token_ids"]
        for path in (f"/{uid}/v1/logprobs", "/v1/logprobs"):
            for asked, k in (({"messages": HI["messages"]}, 1), ({"input_ids": rendered, "top_k": 4}, 4)):
                said = gateway.post(path, asked)
                assert said.status_code == 200, said.text
                check_scores(said.json(), rendered, k)
            said = gateway.post(path, {"prompt": "One and one", "top_logprobs": 2})
            check_scores(said.json(), said.json()["prompt_tokens"], 2)
        assert gateway.get(f"/{uid}/nodes").json()["nodes"] == []
        for wrong in ({}, {"prompt": "x", "input_ids": [1]}, {"input_ids": []}, {"input_ids": [-1]}, {"prompt": ""}):
            assert gateway.post("/v1/logprobs", wrong).status_code in (400, 422), wrong
        trl = gateway.post("/sessions/create", {"base_url": stubs[2].url}).json()["uuid"]
        before = len(stubs[2].requests)
        check_openai(gateway.post(f"/{trl}/v1/logprobs", {"prompt": "Hi."}), 501, "logprobs_not_supported")
        assert len(stubs[2].requests) == before


def check_scores(said: dict[str, Any], ids: list[int], k: int) -> None:
    assert said["prompt_tokens"] == ids
    assert [len(row) for row in said["prompt_topk_token_ids"]] == [0, *[k] * (len(ids) - 1)]
    assert [len(row) for row in said["prompt_topk_logprobs"]] == [0, *[k] * (len(ids) - 1)]
    assert said["prompt_topk_logprobs"] == [sorted(row, reverse=True) for row in said["prompt_topk_logprobs"]]
    assert said["prompt_logprobs"][0] is None
    assert all(isinstance(one, float) for one in said["prompt_logprobs"][1:])


def test_a_long_prompt_is_scored_too(nano: Path, tmp_path: Path) -> None:
    with engines_behind(tmp_path, nano, Engine("sglang")) as (gateway, _):
        ids = [5 + number % 300 for number in range(20_000)]
        said = gateway.post("/v1/logprobs", {"input_ids": ids, "top_k": 2})
        assert said.status_code == 200, said.text[:300]
        check_scores(said.json(), ids, 2)


def test_a_client_that_leaves_several_requests_ends_all_of_them(nano: Path, tmp_path: Path) -> None:
    engine = Engine("sglang", None, {"n_kwarg_is_ignored": True})
    with engines_behind(tmp_path, nano, engine) as (gateway, stubs):
        uid = gateway.post("/sessions/create", {}).json()["uuid"]
        talk(gateway, uid, "Hi.")
        before = len(stubs[0].requests)
        stubs[0].spoil(Fault("slow", after=0), *[Fault("silence")] * 3)
        connection = send_and_leave(gateway, f"/{uid}/v1/chat/completions", {**HI, "n": 4})
        wait_until(lambda: len(stubs[0].requests) == before + 4)
        connection.close()
        wait_until(lambda: all(one.gone for one in stubs[0].requests[before + 1 :]))
        wait_until(lambda: slots(gateway)["train"]["busy"] == 0)
        assert len(gateway.get(f"/{uid}/nodes").json()["nodes"]) == 1
