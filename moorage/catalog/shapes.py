"""The shapes of the reference files: one typed class for each object in references/ and versions.yaml.

The classes check the files when they are read and generate `references/schemas/*.schema.json`; the values live in the
YAML alone. Every class refuses unknown keys, so that a misspelt key is a fault and not a silent default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, StringConstraints

ArchName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]
DottedKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+$")]
FileSuffix = Annotated[str, StringConstraints(pattern=r"^\.[a-z0-9]+$")]
MimeType = Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9.+-]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class Shape(BaseModel):
    """Frozen, closed to unknown keys, and never guessing: `"300"` is not 300."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


# ---- service.yaml -------------------------------------------------------------------------------------------------


class ImageDefaults(Shape):
    """Image key → what it stands for, and the variable that overrides it."""

    mapping: dict[str, str]
    """Image key → dotted `versions.yaml` key (without `images.`), or an absolute URI."""
    env_overrides: dict[str, EnvName]
    """Image key → name of the variable that overrides the mapping: always `IMAGE_<KEY>`."""


class ModelWords(Shape):
    """How a model path becomes words of the inner command, by its form."""

    absolute: list[str] = []
    hf_model: list[str] = []


class ContainerCommand(Shape):
    """One arch's inner command, as words.

    Placeholders, each a word or a part of one: `{model}` (the path as the server takes it), `{model_key}`,
    `{served_model_name}`, `{job}` and `{env}` (compact JSON), `{host}`, `{port}` and `{tensor_parallel}` (shell
    expressions that a platform may move by environment). The word `{model_words}` alone is replaced by `model_words`,
    `{extra_arguments}` by what the user gave after `--`.
    """

    family: Literal["tao", "engine"]
    program: str
    """What must be on PATH where there is no container."""
    python_module: str | None = None
    """The module that `program` (a Python) must be able to import; None when `program` is the server itself."""
    engine: Literal["vllm", "sglang"] | None = None
    """Whose Python environment a local process runs in; None: whatever is on PATH."""
    words: list[str]
    model_words: ModelWords = ModelWords()
    hf_prefix: Literal["keep", "strip"]
    """Whether the server takes `hf_model://org/model` itself or wants the bare `org/model`."""
    needs_model_key_for_hf: bool = False
    environment: list[EnvName] = []
    """Variables of `env_payload` that the container gets."""
    reserved_arguments: list[str] = []
    """Flags that Moorage sets (or that would carry a secret): refused after `--`."""
    optional_arguments: dict[str, str] = {}
    """Flag → what it does: accepted after `--`, listed for readers."""
    streams: bool
    """Whether its chat completions stream."""
    idle_signal: Literal["liveness", "metrics"]
    """Where the last request is read from: the TAO liveness body or Prometheus counters."""
    activity_metrics: list[str] = []
    """For `metrics`: counters and gauges that move, or are above zero, while requests are served."""


class JobPayload(Shape):
    """The JSON of `--job`."""

    fields: dict[str, str]
    """Dotted path in the JSON → its value; `{job_id}`, `{model}` and `{network_arch}` are filled in."""
    known_specs: dict[str, str]
    """Spec keys that the servers read, beside those of `fields`; none of them is sent."""
    refused_specs: dict[str, str]
    """Spec keys that are never sent, each with the reason."""


class EnvPayload(Shape):
    """The JSON of `--docker_env_vars`, and the container's own environment."""

    variables: dict[EnvName, str]
    """Name → value; `{execution_backend}` and `{job_id}` are filled in."""
    execution_backend: dict[str, str]
    """Platform → the value of TAO_EXECUTION_BACKEND."""
    forbidden: dict[EnvName, str]
    """Never set, each with the reason."""


class GpuHostEnv(Shape):
    """Tegra: the variables that take the place of device requests."""

    release_file: str
    runtime: str
    variables: dict[EnvName, str]
    """Name → value; `{gpu_ids}` is the ids given, or `all`."""


class DockerRun(Shape):
    """How a container is run."""

    container_port: Port
    publish_address: str
    port_first: Port
    port_last: Port
    network_env: EnvName
    network_default: str
    shm_size: str
    remove_on_exit: bool


class EndpointReadiness(Shape):
    """How one family tells that it is ready."""

    paths: list[str]
    """Asked in turn: for `tao` the next one after a 404, for `engine` each must agree."""
    meaning: str


class Readiness(Shape):
    """Readiness by family, and what a server's reasons mean."""

    contracts: dict[Literal["tao", "engine"], EndpointReadiness]
    retry_reasons: list[str]
    fatal_reasons: list[str]
    wait_s: PositiveInt
    request_timeout_s: PositiveFloat


class RegistryReference(Shape):
    """The state file, as other tools see it."""

    path: str
    path_env: EnvName
    latest_key: str
    fields: dict[str, str]
    """Field → meaning."""
    written_by_platform: dict[str, list[str]]


class SecretsHandling(Shape):
    """Which variables are secret, which are not, and what may be asked of a person."""

    rules: list[str]
    secret_env_vars: list[EnvName]
    """Secrets that may enter a container's environment."""
    host_secret_env_vars: list[EnvName]
    """Secrets that never leave this machine."""
    allowed_env_vars: list[EnvName]
    """Non-secret variables that may be passed to a container."""
    safe_to_ask: list[str]


class ModelPathForm(Shape):
    """One accepted or refused form of `--model-path`."""

    form: str
    accepted: bool
    meaning: str
    example: str


class NetworkConfigFiles(Shape):
    """Where an arch's sidecar is, and what is read from it."""

    file_pattern: str
    lookup: str
    fallback_image_key: str
    fields: dict[str, str]


class ServiceReference(Shape):
    """references/service.yaml"""

    docker_image_defaults: ImageDefaults
    network_config_files: NetworkConfigFiles
    valid_network_arch_config_basenames: list[ArchName]
    model_path_protocols: list[ModelPathForm]
    container_commands: dict[str, ContainerCommand]
    job_payload: JobPayload
    env_payload: EnvPayload
    optional_gpu_host_env: GpuHostEnv
    docker_run_reference: DockerRun
    readiness: Readiness
    service_registry: RegistryReference
    secrets_handling: SecretsHandling


# ---- request.yaml -------------------------------------------------------------------------------------------------


class SamplingField(Shape):
    """One request field a person may set."""

    type: Literal["integer", "number", "string"]
    flag: str
    """The flag of `moor request`."""
    default: int | float | str | None
    """None: the field has no default and may stay away."""
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    description: str


class ContentItem(Shape):
    """One kind of item in a message's content."""

    type: Literal["text", "image_url", "video_url"]
    shape: dict[str, Any]
    uri_forms: list[str] = []


class RequestBody(Shape):
    """The body of a chat completion."""

    method: str
    path: str
    content_type: str
    timeout_s: PositiveInt
    roles: list[str]
    content_items: list[ContentItem]
    processed_messages: str
    fields: dict[str, SamplingField]
    prompt_policy: list[str]


class ArchRequestRules(Shape):
    """What one arch takes and does not take."""

    media: Literal["required", "optional", "model"]
    """`model`: it depends on the loaded model, so nothing is checked."""
    image_suffixes: list[FileSuffix]
    video_suffixes: list[FileSuffix]
    mime_types: dict[FileSuffix, MimeType]
    """The type that is written into a `data:` URI for each suffix."""
    refused_uri_schemes: list[str]
    fields: dict[str, SamplingField] = {}
    """Its own fields, and base fields with other values."""
    unsupported_fields: list[str] = []
    """Base fields that it does not take."""
    sends_model: bool
    """Whether the body names the served model."""
    reply: Literal["text", "media"]
    first_user_message_only: bool
    notes: list[str] = []


class ErrorShape(Shape):
    """One status that a server answers with."""

    status: int
    error_types: list[str] = []
    """Values of `error.type` that belong to this row; empty: the body decides nothing."""
    meaning: str
    outcome: Literal["retry", "rejected", "failed"]
    """`retry`: the same request may work later; `rejected`: the request is wrong; `failed`: the service is."""
    action: str


class ResponseShapes(Shape):
    """What comes back."""

    success: dict[str, Any]
    """A 200; for an arch whose reply is media, `content` is a `data:` URI."""
    error: dict[str, Any]
    """Every other status."""
    statuses: list[ErrorShape]


class CodeExample(Shape):
    """A sample that runs as it stands."""

    language: Literal["python", "bash"]
    description: str
    inputs: dict[EnvName, str]
    """Variable the sample reads from the environment → meaning."""
    code: str


class RequestReference(Shape):
    """references/request.yaml"""

    chat_completions_request_body: RequestBody
    network_arch_constraints: dict[str, ArchRequestRules]
    container_response_shapes: ResponseShapes
    code_examples: dict[str, CodeExample]


# ---- code-templates.yaml, sidecars, versions.yaml -----------------------------------------------------------------


class CodeTemplate(Shape):
    """A block that a person or an assistant may paste and run."""

    language: Literal["python", "bash"]
    description: str
    inputs: dict[EnvName, str] = {}
    """Variable the block reads from the environment → meaning."""
    code: str


class CodeTemplates(Shape):
    """references/code-templates.yaml"""

    job_payload_builder: dict[str, CodeTemplate]
    registry_write: dict[str, CodeTemplate]
    readiness_check: CodeTemplate
    stop: dict[str, CodeTemplate]
    request: dict[str, CodeTemplate]


class SidecarApi(Shape):
    image: str = ""
    """Image key or absolute URI. Empty: the fallback key, for the archs of TAO alone."""
    results_dir: str | None = None


class SidecarInference(Shape):
    model_path: str
    """Contains `folder` when the model is a folder."""


class SidecarSpec(Shape):
    inference: SidecarInference


class Sidecar(Shape):
    """references/{network_arch}.config.json"""

    api_params: SidecarApi
    spec_params: SidecarSpec


class Versions(Shape):
    """versions.yaml"""

    images: dict[str, dict[str, str]]
    engines: dict[str, dict[str, str]] = {}
    """Engine → package → version that the engine environments install."""
