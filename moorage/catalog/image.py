"""Which container image an arch runs in.

Sidecar → image key → `IMAGE_<KEY>` in the environment, else the mapping → `versions.yaml` → URI. An absolute URI passes
through at every step. No registry is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from moorage.errors import PreflightError

if TYPE_CHECKING:
    from moorage.catalog.catalog import Catalog

IMAGES_PREFIX = "images."
_URI_CHARACTERS = "/:"
_SHORT_NAME = re.compile(r"[a-z0-9]+(?:(?:_|__|-+)[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """An image, and where it came from."""

    image: str
    key: str
    """The image key of the arch: `COSMOS_RL`. The image itself, where its sidecar names one by URI."""
    source: Literal["env", "versions"]
    """`env`: its variable said so. `versions`: the bundle did."""
    versions_key: str | None = None
    """The dotted key it was read from, without `images.`; None where a URI was given."""


def resolve_image(catalog: Catalog, arch: str, environ: Mapping[str, str]) -> ResolvedImage:
    """The image of a known arch. Raises PreflightError naming the key or variable that leads nowhere."""
    arch = catalog.require_arch(arch)
    key = image_key(catalog, arch)
    if _is_uri(key):
        return ResolvedImage(key, key, "versions")
    variable = override_variable(catalog, key)
    override = environ.get(variable, "").strip()
    if override:
        image, versions_key = _from_environment(catalog, variable, override)
        return ResolvedImage(image, key, "env", versions_key)
    mapped = catalog.service.docker_image_defaults.mapping.get(key)
    if mapped is None:
        known = ", ".join(sorted(catalog.service.docker_image_defaults.mapping))
        raise _unresolved(
            f"arch {arch} has the image key {key}, which the mapping in references/service.yaml lacks",
            f"known image keys: {known}; or set {variable} to an image",
        )
    if _is_uri(mapped):
        return ResolvedImage(mapped, key, "versions")
    return ResolvedImage(_from_versions(catalog, f"image key {key}", mapped), key, "versions", _bare(mapped))


def image_key(catalog: Catalog, arch: str) -> str:
    """What the arch's sidecar names: a key, or a URI. Without it, the TAO archs share the fallback key; others fail."""
    sidecar = catalog.sidecars.get(arch)
    if sidecar is not None and sidecar.api_params.image:
        return sidecar.api_params.image
    if catalog.command(arch).family == "tao":
        return catalog.service.network_config_files.fallback_image_key
    raise _unresolved(f"references/{arch}.config.json names no image", "set api_params.image there")


def override_variable(catalog: Catalog, key: str) -> str:
    """The variable that overrides the image key."""
    return catalog.service.docker_image_defaults.env_overrides.get(key, f"IMAGE_{key}")


def _from_environment(catalog: Catalog, variable: str, value: str) -> tuple[str, str | None]:
    """The image that a person asked for, and its dotted key if it was one.

    A word with neither `/`, `:` nor `.` is a local image name (`ubuntu`), unless it is the end of a dotted key.
    """
    if _is_uri(value):
        if value.startswith("-") or any(character.isspace() or not character.isprintable() for character in value):
            raise _unresolved(f"{variable} is not an image: {value!r}", f"unset {variable}, or set it to an image URI")
        return value, None
    if "." in value:
        return _from_versions(catalog, variable, value), _bare(value)
    for dotted in _dotted_keys(catalog):
        if value.lower() == dotted.rpartition(".")[2]:
            raise _unresolved(
                f"{variable} is {value!r}, which is no image",
                f"write the whole key ({variable}={dotted}), or an image with its tag",
            )
    if not _SHORT_NAME.fullmatch(value):
        raise _unresolved(f"{variable} is not an image: {value!r}", _valid_keys(catalog))
    return value, None


def _from_versions(catalog: Catalog, origin: str, dotted: str) -> str:
    group, _, name = _bare(dotted).partition(".")
    image = catalog.versions.images.get(group, {}).get(name)
    if image is None:
        raise _unresolved(
            f"{origin} stands for {dotted!r}, which versions.yaml does not have",
            f"{_valid_keys(catalog)} (an image URI has a / or a tag: name:tag)",
        )
    return image


def _is_uri(value: str) -> bool:
    return any(character in value for character in _URI_CHARACTERS)


def _bare(dotted: str) -> str:
    return dotted.removeprefix(IMAGES_PREFIX)


def _dotted_keys(catalog: Catalog) -> list[str]:
    return [f"{group}.{name}" for group, names in catalog.versions.images.items() for name in names]


def _valid_keys(catalog: Catalog) -> str:
    return f"known keys: {', '.join(sorted(_dotted_keys(catalog)))}"


def _unresolved(message: str, hint: str) -> PreflightError:
    return PreflightError(message, code="image_not_resolved", hint=hint, next=["moor archs"])
