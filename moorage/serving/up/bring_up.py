"""`moor serve up`: from nothing to a model that answers, or back to nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moorage.catalog.engine_python import has_nvidia_gpu
from moorage.errors import ConflictError, InterruptedStart, MoorageError, NotReadyError
from moorage.launch.engine_install import ensure_engine
from moorage.launch.interrupts import held_back, raise_if_interrupted
from moorage.launch.platforms.base import Report
from moorage.launch.processes import ProcessIdentity, is_alive
from moorage.serving.config_file import read_config
from moorage.serving.settings import Config
from moorage.serving.up.asking import ask_model, await_part
from moorage.serving.up.model import await_model, declare_model, lay_model, user_token
from moorage.serving.up.parts import end_parts, start_part
from moorage.serving.up.place import Place
from moorage.serving.up.ports import check_port
from moorage.serving.up.record import Choices, Record, read_record, write_record
from moorage.serving.up.take_down import end_backend

__all__ = ["BACKENDS", "Up", "bring_up"]

BACKENDS = ("ray_serve", "launch", "memory")
ENGINES = {"ray_serve": "ray", "launch": "vllm"}
"""Backend → the environment that it starts models in."""
ENGINE_PLATFORM = "local-process"
"""The platform that runs an engine's environment; others bring a container."""
PART_WITHIN_S = 120.0
ADMIN_TOKEN_ENV = "MOORAGE_ADMIN_TOKEN"  # noqa: S105 - the name of a variable
GATEWAY_TOKEN_ENV = "MOORAGE_SERVING_GATEWAY_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """What is up."""

    already: bool
    """It was up before, and nothing was changed."""
    choices: Choices
    model: dict[str, Any] | None
    """As the API shows it; None: no model was asked for."""
    answer: str | None
    """What the model said; None for a backend that serves nothing."""


def bring_up(
    place: Place, choices: Choices, environ: Mapping[str, str], bundle: Path, report: Report, *, wait_s: float
) -> Up:
    """Start what does not run, declare models/nano, and wait until it answers.

    Raises ConflictError `serve_differs` when it is up and was asked for otherwise, `port_taken`; PreflightError,
    FailedError, InterruptedStart: all that this call began is undone. NotReadyError: the model takes longer than
    `wait_s`; everything stays and goes on.
    """
    place.make()
    with place.alone(report):
        before = read_record(place)
        running = _running(before)
        if before is not None and running and before.choices != choices:
            raise _differs(before.choices, choices)
        return _Start(place, choices, environ, bundle, report, wait_s=wait_s).run(before, running)


class _Start:
    """One try; `began` is what it has to undo."""

    def __init__(
        self,
        place: Place,
        choices: Choices,
        environ: Mapping[str, str],
        bundle: Path,
        report: Report,
        *,
        wait_s: float,
    ) -> None:
        self._place, self._choices, self._environ = place, choices, environ
        self._bundle, self._report = bundle, report
        self._deadline = time.monotonic() + wait_s
        self._gpu = has_nvidia_gpu(environ)
        self._record = Record(choices=choices)
        self._began: list[ProcessIdentity] = []
        self._fresh = True
        """Nothing ran before: what is undone is everything."""

    def run(self, before: Record | None, running: Mapping[str, ProcessIdentity]) -> Up:
        self._fresh = not running
        self._record = Record(
            choices=self._choices, parts=dict(running), model_key=before.model_key if before is not None else None
        )
        try:
            return self._run()
        except NotReadyError as fault:
            fault.next = fault.next or ["moor serve status", "moor serve down"]
            raise
        except KeyboardInterrupt:
            self._undo()
            raise InterruptedStart("interrupted: what was begun was undone") from None
        except BaseException:
            self._undo()
            raise

    def _run(self) -> Up:
        parts = self._record.parts
        choices = self._choices
        for flag, port, part in (
            ("--port", choices.port, "api"),
            ("--inference-port", choices.inference_port, "gateway"),
        ):
            if part not in parts:
                check_port(flag, port)
        config = self._configured()
        self._ensure_engine(read_config(Path(config)))
        source = lay_model(self._bundle, Path(choices.root))
        self._ensure("api", choices.api_url, self._api_words(config), self._api_secrets())
        token = user_token(choices.api_url, self._place)
        key = declare_model(choices.api_url, token, source, gpu=self._gpu)
        self._note(replace(self._record, model_key=key))
        self._ensure("gateway", choices.inference_url, self._gateway_words(), self._gateway_secrets())
        model, answer = self._answering(token, key)
        return Up(already=not self._began, choices=choices, model=model, answer=answer)

    def _ensure_engine(self, config: Config) -> None:
        """Where models are started on this machine; elsewhere they have what they need."""
        engine = ENGINES.get(self._choices.backend)
        elsewhere = {"ray": config.ray.address is not None, "vllm": config.launch.platform != ENGINE_PLATFORM}
        if engine is not None and not elsewhere[engine]:
            self._report("install", f"looking for the {engine} environment")
            ensure_engine(engine, gpu=self._gpu, environ=self._environ, root=self._bundle, report=self._report)

    def _configured(self) -> str:
        """The user's file; else one of ours that says what this machine has."""
        if self._choices.config is not None:
            return self._choices.config
        accelerator = "gpu" if self._gpu else "cpu"
        self._place.write(self._place.config, f"serving:\n  llm:\n    accelerator: {accelerator}\n")
        return str(self._place.config)

    def _ensure(self, part: str, url: str, words: list[str], secrets: dict[str, str]) -> None:
        identity = self._record.parts.get(part)
        if identity is None:
            self._report(part, f"starting on {url}")
            with held_back():
                identity = start_part(self._place, part, words, self._environ, secrets)
                self._began.append(identity)
                self._note(replace(self._record, parts={**self._record.parts, part: identity}))
        await_part(self._place, part, identity, url, wait_s=PART_WITHIN_S)

    def _note(self, record: Record) -> None:
        self._record = record
        write_record(self._place, record)

    def _answering(self, token: str, key: str) -> tuple[dict[str, Any], str | None]:
        """Until the model answers through the gateway, which learns of it a moment after the API."""
        url = self._choices.api_url
        while True:
            left_s = max(0.0, self._deadline - time.monotonic())
            detail = await_model(url, token, key, wait_s=left_s, report=self._report)
            if self._choices.backend == "memory":
                return detail.model.raw, None
            try:
                return detail.model.raw, ask_model(self._choices.inference_url, detail.model.model_id, key=token)
            except NotReadyError:
                if time.monotonic() >= self._deadline:
                    raise
            raise_if_interrupted()
            time.sleep(0.5)

    def _api_words(self, config: str) -> list[str]:
        choices = self._choices
        words = ["serve", "api", "--backend", choices.backend, "--host", choices.host, "--port", str(choices.port)]
        words += ["--inference-port", str(choices.inference_port), "--root", choices.root, "--db", self._place.db]
        words += ["--public-host", _public(choices), "--config", config]
        return [*words, "--admin-token-env", ADMIN_TOKEN_ENV, "--gateway-token-env", GATEWAY_TOKEN_ENV]

    def _gateway_words(self) -> list[str]:
        choices = self._choices
        words = ["gateway", "--host", choices.host, "--port", str(choices.inference_port)]
        words += ["--serving", choices.api_url, "--serving-token-env", GATEWAY_TOKEN_ENV]
        return [*words, "--db", self._place.gateway_db]

    def _api_secrets(self) -> dict[str, str]:
        return {ADMIN_TOKEN_ENV: self._place.made_token("admin"), **self._gateway_secrets()}

    def _gateway_secrets(self) -> dict[str, str]:
        return {GATEWAY_TOKEN_ENV: self._place.made_token("gateway")}

    def _undo(self) -> None:
        """Take back what was begun; what cannot be is said, and `moor serve down` tries again."""
        if not self._began:
            return
        with held_back(forget=True):
            self._report("undo", "taking back what was begun")
            try:
                end_parts(self._began)
                if self._fresh:
                    end_backend(self._place, self._choices, self._environ, self._report)
                    with suppress(OSError):
                        self._place.record.unlink()
            except MoorageError as fault:
                self._report("undo", f"could not undo: {fault.message}; `moor serve down` tries again")


def _running(record: Record | None) -> dict[str, ProcessIdentity]:
    """The parts that live. One that lives and does not answer is not taken for dead: it is waited for."""
    if record is None:
        return {}
    return {name: identity for name, identity in record.parts.items() if is_alive(identity)}


def _public(choices: Choices) -> str:
    return "localhost" if choices.near_host in ("127.0.0.1", "[::1]") else choices.host


def _differs(now: Choices, wanted: Choices) -> ConflictError:
    names = [name for name in Choices.__slots__ if getattr(now, name) != getattr(wanted, name)]
    said = ", ".join(f"{name} {getattr(now, name)}" for name in names)
    return ConflictError(
        f"it is up with {said}, and was asked for with {', '.join(str(getattr(wanted, name)) for name in names)}",
        code="serve_differs",
        hint="take it down first, or leave the flags as they were",
        next=["moor serve down", "moor serve status"],
    )
