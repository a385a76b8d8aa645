"""Checks that no single value can show: what the reference files say of each other, and of themselves.

Pure: they look at a `Reading` and skip what is not sound in it. They run at every load, so they stay cheap.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from moorage.catalog.locations import Fault, Parts
from moorage.catalog.reading import REQUEST, SERVICE, TEMPLATES, VERSIONS, Reading, sidecar_file
from moorage.catalog.request_checks import request_faults
from moorage.catalog.shape_faults import nearest
from moorage.catalog.shapes import ContainerCommand, EnvPayload

WORD_PLACEHOLDERS = frozenset(
    {"model", "model_key", "served_model_name", "job", "env", "host", "port", "tensor_parallel"}
)
WHOLE_WORDS = frozenset({"model_words", "extra_arguments"})
"""Placeholders that stand for any number of words, so they must be words by themselves."""

_BRACES = re.compile(r"\{([^{}]*)\}")


def cross_faults(reading: Reading) -> list[Fault]:
    """Every fault between the files, and between the parts of one."""
    checks = (
        _arch_faults,
        _image_faults,
        _sidecar_faults,
        _command_faults,
        _payload_faults,
        _secret_faults,
        _readiness_faults,
        request_faults,
    )
    return list(itertools.chain.from_iterable(check(reading) for check in checks))


def _arch_faults(reading: Reading) -> Iterator[Fault]:
    """Every arch has its command, its request rules and its payload builder, and nothing else has."""
    key = "valid_network_arch_config_basenames"
    archs = reading.section(SERVICE, key)
    if archs is None:
        return
    for index, arch in enumerate(archs):
        if arch in archs[:index]:
            yield reading.documents[SERVICE].fault((key, index), f"the arch {arch!r} is here twice", "keep one of them")
    for file, section in (
        (SERVICE, "container_commands"),
        (REQUEST, "network_arch_constraints"),
        (TEMPLATES, "job_payload_builder"),
    ):
        present = reading.section(file, section)
        if present is not None:
            yield from _coverage(reading, file, section, present, archs)


def _coverage(reading: Reading, file: str, section: str, present: Collection[str], archs: list[str]) -> Iterator[Fault]:
    document = reading.documents[file]
    for arch in archs:
        if arch not in present:
            yield document.fault((section, arch), f"the arch {arch!r} has no entry in {section}", "add it")
    for name in present:
        if name not in archs:
            message = f"{name!r} is not in valid_network_arch_config_basenames"
            yield document.fault((section, name), message, nearest(name, archs))


def _image_faults(reading: Reading) -> Iterator[Fault]:
    """Every image key resolves to a URI and has its IMAGE_ variable."""
    defaults, images = reading.section(SERVICE, "docker_image_defaults"), reading.section(VERSIONS, "images")
    if defaults is None:
        return
    document, at = reading.documents[SERVICE], "docker_image_defaults"
    for key, target in defaults.mapping.items():
        if key not in defaults.env_overrides:
            hint = f"add {key}: IMAGE_{key}"
            yield document.fault((at, "env_overrides", key), f"the image key {key!r} has no variable", hint)
        if images is not None and not _resolves(target, images):
            message = f"versions.yaml has no image {target!r}"
            yield document.fault((at, "mapping", key), message, nearest(target, _dotted(images)))
    for key, variable in defaults.env_overrides.items():
        if key not in defaults.mapping:
            message = f"{key!r} is not in the mapping"
            yield document.fault((at, "env_overrides", key), message, nearest(key, list(defaults.mapping)))
        if variable != f"IMAGE_{key}":
            message = f"the variable of {key!r} is {variable!r}"
            yield document.fault((at, "env_overrides", key), message, f"write IMAGE_{key}")
    files = reading.section(SERVICE, "network_config_files")
    if files is not None and files.fallback_image_key not in defaults.mapping:
        message = f"{files.fallback_image_key!r} is not in docker_image_defaults.mapping"
        place = ("network_config_files", "fallback_image_key")
        yield document.fault(place, message, nearest(files.fallback_image_key, list(defaults.mapping)))


def _sidecar_faults(reading: Reading) -> Iterator[Fault]:
    """Every sidecar names an image key that the mapping has, or a URI."""
    defaults = reading.section(SERVICE, "docker_image_defaults")
    commands = reading.section(SERVICE, "container_commands") or {}
    for arch, sidecar in reading.sidecars.items():
        document, place, image = (
            reading.documents[sidecar_file(arch)],
            ("api_params", "image"),
            sidecar.api_params.image,
        )
        if not image:
            if arch in commands and commands[arch].family != "tao":
                yield document.fault(place, "it names no image", "only the archs of TAO have a fallback")
        elif defaults is not None and image not in defaults.mapping and not _is_uri(image):
            message = f"the image key {image!r} is not in docker_image_defaults.mapping"
            yield document.fault(place, message, nearest(image, list(defaults.mapping)))


def _command_faults(reading: Reading) -> Iterator[Fault]:
    commands: Mapping[str, ContainerCommand] = reading.section(SERVICE, "container_commands") or {}
    variables = reading.section(SERVICE, "env_payload")
    for arch, command in commands.items():
        place = ("container_commands", arch)
        for sub, message, hint in itertools.chain(
            _word_findings(command),
            _flag_findings(command),
            _family_findings(command),
            _env_findings(command, variables),
        ):
            yield reading.documents[SERVICE].fault((*place, *sub), message, hint)


Finding = tuple[Parts, str, str]
"""Place below the command, message, hint."""


def _word_findings(command: ContainerCommand) -> Iterator[Finding]:
    """Placeholders are known, and the ones that stand for several words stand alone."""
    for index, word in enumerate(command.words):
        if word in {f"{{{name}}}" for name in WHOLE_WORDS}:
            continue
        for name in _placeholders(word):
            if name in WHOLE_WORDS:
                yield ("words", index), f"{{{name}}} is a part of a word", "write it as a word of its own"
            elif name not in WORD_PLACEHOLDERS:
                known = sorted(WORD_PLACEHOLDERS | WHOLE_WORDS)
                yield ("words", index), f"unknown placeholder {{{name}}}", nearest(name, known)
    forms = {"absolute": command.model_words.absolute, "hf_model": command.model_words.hf_model}
    for form, words in forms.items():
        if bool(words) != ("{model_words}" in command.words):
            yield ("model_words", form), f"{{model_words}} is in words, or {form} has words, but not both", ""
        for index, word in enumerate(words):
            for name in set(_placeholders(word)) - {"model", "model_key"}:
                hint = "model words know {model} and {model_key}"
                yield ("model_words", form, index), f"unknown placeholder {{{name}}}", hint


def _flag_findings(command: ContainerCommand) -> Iterator[Finding]:
    """What Moorage sets nobody else may set."""
    ours = [*command.words, *command.model_words.absolute, *command.model_words.hf_model]
    for flag in dict.fromkeys(word for word in ours if word.startswith("--")):
        if flag not in command.reserved_arguments:
            yield ("reserved_arguments",), f"{flag} is in the command but not reserved", f"add {flag}"
    for flag in command.optional_arguments:
        if flag in command.reserved_arguments:
            yield ("optional_arguments", flag), f"{flag} is reserved too", "keep one of them"


def _family_findings(command: ContainerCommand) -> Iterator[Finding]:
    if (command.engine is None) != (command.family == "tao"):
        yield ("engine",), f"family {command.family} with engine {command.engine}", "engines have one, TAO's archs none"
    if (command.idle_signal == "metrics") != bool(command.activity_metrics):
        yield ("activity_metrics",), f"idle_signal is {command.idle_signal}", "metrics are listed for metrics alone"


def _env_findings(command: ContainerCommand, payload: EnvPayload | None) -> Iterator[Finding]:
    for index, name in enumerate(command.environment):
        if payload is not None and name not in payload.variables:
            yield ("environment", index), f"{name} is not in env_payload", nearest(name, list(payload.variables))


def _payload_faults(reading: Reading) -> Iterator[Fault]:
    """Placeholders of the payloads are known; what is forbidden is not set."""
    document = reading.documents.get(SERVICE)
    job, env = reading.section(SERVICE, "job_payload"), reading.section(SERVICE, "env_payload")
    tegra = reading.section(SERVICE, "optional_gpu_host_env")
    if document is None:
        return
    texts: list[tuple[Parts, str, set[str]]] = []
    if job is not None:
        known = {"job_id", "model", "network_arch"}
        texts += [(("job_payload", "fields", name), text, known) for name, text in job.fields.items()]
    if env is not None:
        known = {"execution_backend", "job_id"}
        texts += [(("env_payload", "variables", name), text, known) for name, text in env.variables.items()]
        for name in sorted(env.forbidden.keys() & env.variables.keys()):
            yield document.fault(("env_payload", "variables", name), f"{name} is forbidden too", "remove it here")
    if tegra is not None:
        known = {"gpu_ids"}
        texts += [(("optional_gpu_host_env", "variables", n), text, known) for n, text in tegra.variables.items()]
    for place, text, known in texts:
        for name in set(_placeholders(text)) - known:
            yield document.fault(place, f"unknown placeholder {{{name}}}", nearest(name, sorted(known)))


def _secret_faults(reading: Reading) -> Iterator[Fault]:
    """A variable is secret or it is not, and the forbidden ones may go nowhere."""
    secrets, env = reading.section(SERVICE, "secrets_handling"), reading.section(SERVICE, "env_payload")
    if secrets is None:
        return
    document, at = reading.documents[SERVICE], "secrets_handling"
    secret = {*secrets.secret_env_vars, *secrets.host_secret_env_vars}
    forbidden = set(env.forbidden) if env is not None else set()
    for key in ("allowed_env_vars", "safe_to_ask"):
        for index, name in enumerate(getattr(secrets, key)):
            if name in secret:
                yield document.fault((at, key, index), f"{name} is secret", "a secret is neither allowed nor asked for")
    for key in ("allowed_env_vars", "secret_env_vars"):
        for index, name in enumerate(getattr(secrets, key)):
            if name in forbidden:
                yield document.fault((at, key, index), f"{name} is forbidden in env_payload", "remove it here")
    for index, name in enumerate(secrets.host_secret_env_vars):
        if name in secrets.secret_env_vars:
            place = (at, "host_secret_env_vars", index)
            yield document.fault(place, f"{name} is in secret_env_vars too", "it may enter a container or not")


def _readiness_faults(reading: Reading) -> Iterator[Fault]:
    readiness, docker = reading.section(SERVICE, "readiness"), reading.section(SERVICE, "docker_run_reference")
    document = reading.documents.get(SERVICE)
    if readiness is not None and document is not None:
        for index, reason in enumerate(readiness.retry_reasons):
            if reason in readiness.fatal_reasons:
                place = ("readiness", "retry_reasons", index)
                yield document.fault(place, f"{reason} is fatal too", "a reason is waited for or given up on")
        commands: Iterable[ContainerCommand] = (reading.section(SERVICE, "container_commands") or {}).values()
        for family in sorted({command.family for command in commands} - set(readiness.contracts)):
            yield document.fault(("readiness", "contracts", family), f"the family {family} has no contract", "add it")
    if docker is not None and document is not None and docker.port_first > docker.port_last:
        message = f"no port range: {docker.port_first} to {docker.port_last}"
        yield document.fault(("docker_run_reference", "port_first"), message, "port_first comes before port_last")


def _placeholders(text: str) -> list[str]:
    """Names in braces; a brace without its partner counts as the name of itself."""
    rest = _BRACES.sub("", text)
    return _BRACES.findall(text) + [brace for brace in "{}" if brace in rest]


def _resolves(target: str, images: Mapping[str, Mapping[str, str]]) -> bool:
    return _is_uri(target) or target.removeprefix("images.") in _dotted(images)


def _dotted(images: Mapping[str, Mapping[str, str]]) -> list[str]:
    return [f"{group}.{name}" for group, names in images.items() for name in names]


def _is_uri(text: str) -> bool:
    """As TAO's resolver tells them apart: a URI has a `/` or a tag."""
    return "/" in text or ":" in text
