"""One broken thing a row: file, text that is there once, what takes its place, pointer and message of the fault.

The comment `# HERE` marks the line on which the fault must be found.
"""

from __future__ import annotations

SERVICE = "references/service.yaml"
REQUEST = "references/request.yaml"
TEMPLATES = "references/code-templates.yaml"
VERSIONS = "versions.yaml"

_IMAGES = "/docker_image_defaults"
_COMMANDS = "/container_commands"
_RULES = "/network_arch_constraints"
_PREDICT = "/network_arch_constraints/cosmos-predict2.5"

SHAPES = [
    (SERVICE, "container_port: 8080", "container_port: '8080' # HERE",
     "/docker_run_reference/container_port", "'8080'"),
    (SERVICE, "container_port: 8080", "container_port: 80800 # HERE",
     "/docker_run_reference/container_port", "80800 is wrong"),
    (SERVICE, "port_first: 8080", "port_first: -1 # HERE", "/docker_run_reference/port_first", "-1 is wrong"),
    (SERVICE, "wait_s: 1800", "wait_s: 0 # HERE\n  #", "/readiness/wait_s", "0 is wrong"),
    (SERVICE, "request_timeout_s: 5.0", "request_timeout_s: .nan # HERE",
     "/readiness/request_timeout_s", "nan is wrong"),
    (SERVICE, "remove_on_exit: false", "remove_on_exit: 0 # HERE",
     "/docker_run_reference/remove_on_exit", "0 is wrong"),
    (
        SERVICE,
        "docker_run_reference:\n  container_port: 8080\n",
        "docker_run_reference: # HERE\n",
        "/docker_run_reference/container_port",
        "missing",
    ),
    (SERVICE, "  shm_size: 8g", "  shm_size: 8g\n  shmsize: 8g # HERE", "/docker_run_reference/shmsize", "unknown key"),
    (SERVICE, "VLLM: IMAGE_VLLM", "VLLM: image_vllm # HERE", f"{_IMAGES}/env_overrides/VLLM", "'image_vllm' is wrong"),
    (SERVICE, "    TAO_API_JOB_ID: ", "    tao-id: # HERE\n     ", "/env_payload/variables/tao-id", "the key 'tao-id'"),
    (SERVICE, "    hf_prefix: keep\n    environment: [TAO_EXECUTION_BACKEND, TAO_API_JOB_ID, CLOUD_BASED]\n"
     "    reserved_arguments: [--job, --docker_env_vars, --port]\n    optional_arguments:\n"
     "      --idle_timeout_minutes: minutes without a request before the server asks to be deleted (30); it asks nobody"
     " here\n      --disable_auto_deletion: never asks\n    streams: false\n    idle_signal: liveness\n\n  vllm",
     "    hf_prefix: keeep # HERE\n    streams: false\n    idle_signal: liveness\n\n  vllm",
     f"{_COMMANDS}/tao-dataservices/hf_prefix", "'keeep' is wrong"),
    (SERVICE, "  - sglang\n", "  - ../sglang # HERE\n",
     "/valid_network_arch_config_basenames/4", "'../sglang' is wrong"),
    (VERSIONS, "openai: vllm/vllm-openai:v0.32.0", "openai: 0.32 # HERE", "/images/vllm/openai", "0.32 is wrong"),
    (VERSIONS, "openai: vllm/vllm-openai:v0.32.0", "openai: no # HERE", "/images/vllm/openai", "False is wrong"),
    (VERSIONS, "images:", "pictures: {} # HERE\nimages:", "/pictures", "unknown key 'pictures'"),
    (
        REQUEST,
        "default: 8192",
        "default: [8192] # HERE",
        "/chat_completions_request_body/fields/max_tokens/default",
        "[8192] is wrong",
    ),
    (TEMPLATES, "readiness_check:\n  language: python", "readiness_check:\n  language: perl # HERE",
     "/readiness_check/language", "'perl' is wrong"),
    (TEMPLATES, "      MOORAGE_PROMPT: what", "      prompt: what # HERE\n      MOORAGE_PROMPT: what",
     "/request/send/inputs/prompt", "the key 'prompt'"),
]  # fmt: skip

IMAGES = [
    (SERVICE, "VLLM: vllm.openai", "VLLM: vllm.open_ai # HERE", f"{_IMAGES}/mapping/VLLM", "no image 'vllm.open_ai'"),
    (SERVICE, "VLLM: vllm.openai", "VLLM: openai # HERE", f"{_IMAGES}/mapping/VLLM", "no image 'openai'"),
    (SERVICE, "VLLM: IMAGE_VLLM", "VLLM: IMAGE_V # HERE", f"{_IMAGES}/env_overrides/VLLM", "is 'IMAGE_V'"),
    (
        SERVICE,
        "env_overrides:\n    COSMOS_RL: IMAGE_COSMOS_RL\n",
        "env_overrides: # HERE\n",
        f"{_IMAGES}/env_overrides/COSMOS_RL",
        "no variable",
    ),
    (
        SERVICE,
        "    VLLM: IMAGE_VLLM\n",
        "    VLLM: IMAGE_VLLM\n    TRL: IMAGE_TRL # HERE\n",
        f"{_IMAGES}/env_overrides/TRL",
        "'TRL' is not in the mapping",
    ),
    (
        SERVICE,
        "fallback_image_key: COSMOS_RL",
        "fallback_image_key: COSMOS_R1 # HERE",
        "/network_config_files/fallback_image_key",
        "'COSMOS_R1' is not in",
    ),
]

ARCHS = [
    (
        SERVICE,
        "  - sglang\n",
        "  - sglang\n  - vllm # HERE\n",
        "/valid_network_arch_config_basenames/5",
        "'vllm' is here twice",
    ),
    (SERVICE, "  sglang:\n    family", "  sg-lang: # HERE\n    family", f"{_COMMANDS}/sg-lang", "'sg-lang' is not in"),
    (REQUEST, "  sglang:\n", "  sg-lang: # HERE\n", f"{_RULES}/sg-lang", "'sg-lang' is not in"),
    (REQUEST, "network_arch_constraints:\n  cosmos-rl:", "network_arch_constraints: # HERE\n  cosmos-r1:",
     f"{_RULES}/cosmos-rl", "no entry"),
    (TEMPLATES, "job_payload_builder:\n  cosmos-rl:", "job_payload_builder: # HERE\n  cosmos-r1:",
     "/job_payload_builder/cosmos-rl", "no entry"),
]  # fmt: skip

COMMANDS = [
    (SERVICE, '[--checkpoint-path, "{model}"]', '[--checkpoint-path, "{modl}"] # HERE',
     f"{_COMMANDS}/cosmos-predict2.5/model_words/absolute/1", "unknown placeholder {modl}"),
    (SERVICE, 'hf_model: [--model, "{model_key}"]', 'hf_model: [--model, "{port}"] # HERE',
     f"{_COMMANDS}/cosmos-predict2.5/model_words/hf_model/1", "unknown placeholder {port}"),
    (SERVICE, '    model_words:\n      absolute: [--checkpoint-path, "{model}"]\n', "    model_words: # HERE\n",
     f"{_COMMANDS}/cosmos-predict2.5/model_words/absolute", "not both"),
    (SERVICE, 'inference_microservice, start, "{model_words}",',
     'inference_microservice, start, "x{model_words}", # HERE\n',
     f"{_COMMANDS}/cosmos-predict2.5/words/3", "a part of a word"),
    (SERVICE, 'sglang.launch_server, --model-path, "{model}",',
     'sglang.launch_server, --model-path, "{modl}", # HERE\n',
     f"{_COMMANDS}/sglang/words/4", "unknown placeholder {modl}"),
    (SERVICE, 'sglang.launch_server, --model-path, "{model}",',
     'sglang.launch_server, --model-path, "{model", # HERE\n',
     f"{_COMMANDS}/sglang/words/4", "unknown placeholder {{}"),
    (SERVICE, "reserved_arguments: [--checkpoint-path, --model,",
     "reserved_arguments: # HERE\n      [--checkpoint-path,",
     f"{_COMMANDS}/cosmos-predict2.5/reserved_arguments", "--model is in the command but not reserved"),
    (SERVICE, "      --enforce-eager: no", "      --uds: a socket # HERE\n      --enforce-eager: no",
     f"{_COMMANDS}/vllm/optional_arguments/--uds", "reserved too"),
    (SERVICE, "  vllm:\n    family: engine", "  vllm:\n    family: tao",
     f"{_COMMANDS}/vllm/engine", "family tao with engine vllm"),
    (SERVICE, "    engine: sglang\n", "", f"{_COMMANDS}/sglang/engine", "family engine with engine None"),
    (SERVICE, "    idle_signal: metrics\n    activity_metrics: [sglang:", "    idle_signal: liveness\n"
     "    activity_metrics: # HERE\n      [sglang:", f"{_COMMANDS}/sglang/activity_metrics", "idle_signal is liveness"),
    (SERVICE, "environment: [TAO_EXECUTION_BACKEND, TAO_API_JOB_ID, CLOUD_BASED] #", "environment: [TAO_JOB] # HERE",
     f"{_COMMANDS}/cosmos-predict2.5/environment/0", "TAO_JOB is not in env_payload"),
]  # fmt: skip

PAYLOADS = [
    (SERVICE, 'specs.model_path: "{model}"', 'specs.model_path: "{modl}" # HERE',
     "/job_payload/fields/specs.model_path", "unknown placeholder {modl}"),
    (SERVICE, 'CLOUD_BASED: "False"', 'CLOUD_BASED: "{job}" # HERE',
     "/env_payload/variables/CLOUD_BASED", "unknown placeholder {job}"),
    (SERVICE, 'CLOUD_BASED: "False"', 'CLOUD_BASED: "False"\n    TAO_ADMIN_KEY: x # HERE',
     "/env_payload/variables/TAO_ADMIN_KEY", "forbidden too"),
    (SERVICE, 'NVIDIA_VISIBLE_DEVICES: "{gpu_ids}"', 'NVIDIA_VISIBLE_DEVICES: "{ids}" # HERE',
     "/optional_gpu_host_env/variables/NVIDIA_VISIBLE_DEVICES", "unknown placeholder {ids}"),
    (SERVICE, "allowed_env_vars:\n    [\n", "allowed_env_vars:\n    [\n      HF_TOKEN, # HERE\n",
     "/secrets_handling/allowed_env_vars/0", "HF_TOKEN is secret"),
    (SERVICE, "allowed_env_vars:\n    [\n", "allowed_env_vars:\n    [\n      TAO_LOGGING_SERVER_URL, # HERE\n",
     "/secrets_handling/allowed_env_vars/0", "is forbidden"),
    (SERVICE, "safe_to_ask:\n    [\n", "safe_to_ask:\n    [\n      NGC_KEY, # HERE\n",
     "/secrets_handling/safe_to_ask/0", "NGC_KEY is secret"),
    (SERVICE, "retry_reasons: [", "retry_reasons: [model_load_error, # HERE\n    ",
     "/readiness/retry_reasons/0", "model_load_error is fatal too"),
    (SERVICE, "port_first: 8080", "port_first: 8200 # HERE", "/docker_run_reference/port_first", "8200 to 8199"),
]  # fmt: skip

REQUESTS = [
    (REQUEST, "default: 77", "default: 0 # HERE", f"{_PREDICT}/fields/max_tokens/default", "0 is out of range"),
    (REQUEST, "default: 0.8", "default: .nan # HERE",
     "/chat_completions_request_body/fields/top_p/default", "nan is out"),
    (REQUEST, "default: 0.8", "default: 0 # HERE", "/chat_completions_request_body/fields/top_p/default", "0 is out"),
    (REQUEST, "default: 8192", "default: 8192.5 # HERE",
     "/chat_completions_request_body/fields/max_tokens/default", "8192.5 is not of type integer"),
    (REQUEST, "        maximum: 7\n", "        maximum: -1 # HERE\n",
     f"{_PREDICT}/fields/guidance/maximum", "is empty"),
    (REQUEST, "exclusive_minimum: 0\n", "exclusive_minimum: 0 # HERE\n      minimum: 0\n",
     "/chat_completions_request_body/fields/top_p/exclusive_minimum", "minimum is here too"),
    (REQUEST, "flag: --negative-prompt", "flag: negative-prompt # HERE",
     f"{_PREDICT}/fields/negative_prompt/flag", "'negative-prompt' is no flag"),
    (REQUEST, "flag: --num-steps", "flag: --guidance # HERE",
     f"{_PREDICT}/fields/num_steps/flag", "the flag of guidance too"),
    (REQUEST, "flag: --seed\n        default: null", "flag: --random-seed # HERE\n        default: null",
     f"{_RULES}/vllm/fields/seed/flag", "seed has the flag --seed elsewhere"),
    (REQUEST, "      negative_prompt:\n", "      negative_prompt: # HERE\n        maximum: 3\n",
     f"{_PREDICT}/fields/negative_prompt", "a text has no range"),
    (REQUEST, "[temperature, top_p]", "[temperature, top-p] # HERE",
     f"{_PREDICT}/unsupported_fields/1", "no base field"),
    (REQUEST, "[temperature, top_p]", "[max_tokens, top_p] # HERE", f"{_PREDICT}/unsupported_fields/0", "fields too"),
    (REQUEST, "[.png, .jpg, .jpeg, .webp]", "[.png, .jpg, .jpeg, .webp, .gif] # HERE",
     f"{_PREDICT}/image_suffixes/4", ".gif has no entry"),
    (REQUEST, "image_suffixes: [.png, .jpg, .jpeg, .webp]\n    video_suffixes: [.mp4]\n    mime_types:\n",
     "image_suffixes: [.png, .jpg, .jpeg, .webp]\n    video_suffixes: [.mp4]\n    mime_types:\n"
     "      .gif: image/gif # HERE\n",
     f"{_PREDICT}/mime_types/.gif", "no suffix of this arch"),
    (REQUEST, ".webp: image/webp\n      .mp4: video/mp4\n", ".webp: video/webp # HERE\n      .mp4: video/mp4\n",
     f"{_PREDICT}/mime_types/.webp", "'video/webp' is no image"),
]  # fmt: skip

CODE = [
    (TEMPLATES, "          print(f\"latest: {state.latest}\")", f"          {'-' * 100_000}1",
     "/stop/registry_cleanup/code", "not Python: nested too deeply"),
    (TEMPLATES, "          print(f\"latest: {state.latest}\")", "          print(f\"latest: {state.latest}\" # HERE",
     "/stop/registry_cleanup/code", "not Python"),
    (REQUEST, "      picture = base64.b64encode(", "      picture == = base64.b64encode( # HERE\n      ",
     "/code_examples/python_image/code", "not Python"),
]  # fmt: skip

BROKEN = [*SHAPES, *IMAGES, *ARCHS, *COMMANDS, *PAYLOADS, *REQUESTS, *CODE]
