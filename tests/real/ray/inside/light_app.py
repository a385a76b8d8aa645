"""An application that Ray Serve builds in seconds: the deployments of Ray Serve LLM, by their names, and no engine.

Ray imports it, under its own Python: nothing of ours is there.
"""

from __future__ import annotations

from typing import Any

from ray import serve


class Model:
    """What an engine would be."""

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": "Nobody thought about this."}
        return {"object": "chat.completion", "model": body["model"], "choices": [{"index": 0, "message": message}]}


class Front:
    """Speaks enough of OpenAI's API."""

    def __init__(self, model_id: str, model: Any) -> None:
        self._model_id = model_id
        self._model = model

    async def __call__(self, request: Any) -> dict[str, Any]:
        if request.method == "GET":
            return {"object": "list", "data": [{"id": self._model_id, "object": "model"}]}
        return await self._model.complete.remote(await request.json())


def build(args: dict[str, Any]) -> Any:
    """From what `ray.serve.llm:build_openai_app` takes."""
    [config] = args["llm_configs"]
    model_id = config["model_loading_config"]["model_id"]
    name = f"LLMServer:{model_id.replace('/', '--').replace('.', '_')}"
    light = {"num_cpus": 0}
    model = serve.deployment(Model, name=name, ray_actor_options=light).bind()
    return serve.deployment(Front, name="OpenAiIngress", ray_actor_options=light).bind(model_id, model)
