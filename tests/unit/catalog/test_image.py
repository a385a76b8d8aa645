from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moorage.catalog.catalog import Catalog, load_catalog
from moorage.catalog.image import resolve_image
from moorage.catalog.shapes import Sidecar
from moorage.errors import PreflightError, UsageError

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(ROOT)


def with_sidecar(catalog: Catalog, arch: str, image: str | None) -> Catalog:
    """The catalog with another image in the arch's sidecar; None takes the sidecar away."""
    sidecars = {name: sidecar for name, sidecar in catalog.sidecars.items() if name != arch}
    if image is not None:
        document = {"api_params": {"image": image}, "spec_params": {"inference": {"model_path": "folder"}}}
        sidecars[arch] = Sidecar.model_validate(document)
    return replace(catalog, sidecars=sidecars)


def with_mapping(catalog: Catalog, mapping: dict[str, str]) -> Catalog:
    defaults = catalog.service.docker_image_defaults.model_copy(update={"mapping": mapping})
    return replace(catalog, service=catalog.service.model_copy(update={"docker_image_defaults": defaults}))


def refusal(catalog: Catalog, arch: str, environ: dict[str, str]) -> PreflightError:
    with pytest.raises(PreflightError) as caught:
        resolve_image(catalog, arch, environ)
    assert caught.value.code == "image_not_resolved"
    assert caught.value.exit_status == 5
    return caught.value


@pytest.mark.parametrize(
    ("arch", "key", "image"),
    [
        ("cosmos-rl", "COSMOS_RL", "nvcr.io/nvidia/tao/tao-toolkit:7.0.1-cosmos-rl"),
        ("cosmos-predict2.5", "COSMOS_PREDICT2_5", "nvcr.io/nvidia/tao/tao-toolkit:7.0.1-cosmos-predict"),
        ("tao-dataservices", "TAO_DATASERVICES", "nvcr.io/nvidia/tao/tao-toolkit:7.0.1-data-services"),
    ],
)
def test_tao_archs_default_to_the_public_tags(catalog: Catalog, arch: str, key: str, image: str) -> None:
    resolved = resolve_image(catalog, arch, {})
    assert (resolved.image, resolved.key, resolved.source) == (image, key, "versions")
    assert resolved.versions_key is not None
    assert resolved.versions_key.startswith("tao_toolkit.")


def test_every_arch_and_every_mapped_key_resolve(catalog: Catalog) -> None:
    for arch in catalog.archs:
        assert ":" in resolve_image(catalog, arch, {}).image
    for key in catalog.service.docker_image_defaults.mapping:
        assert ":" in resolve_image(with_sidecar(catalog, "vllm", key), "vllm", {}).image


@pytest.mark.parametrize("value", ["my.registry:5000/a/b:1", "repo/name", "name:tag", "name@sha256:00", "ubuntu"])
def test_the_variable_may_name_any_image(catalog: Catalog, value: str) -> None:
    resolved = resolve_image(catalog, "cosmos-rl", {"IMAGE_COSMOS_RL": f" {value}\n"})
    assert (resolved.image, resolved.source, resolved.versions_key) == (value, "env", None)


@pytest.mark.parametrize("prefix", ["", "images."])
def test_the_variable_may_be_a_dotted_key(catalog: Catalog, prefix: str) -> None:
    environ = {"IMAGE_COSMOS_RL": f"{prefix}tao_toolkit.data_services"}
    resolved = resolve_image(catalog, "cosmos-rl", environ)
    assert resolved.image == resolve_image(catalog, "tao-dataservices", {}).image
    assert (resolved.source, resolved.versions_key) == ("env", "tao_toolkit.data_services")


@pytest.mark.parametrize("value", ["", "   "])
def test_an_empty_variable_is_unset(catalog: Catalog, value: str) -> None:
    environ = {"IMAGE_VLLM": value, "IMAGE_SGLANG": "other/image:1"}
    assert resolve_image(catalog, "vllm", environ) == resolve_image(catalog, "vllm", {})


@pytest.mark.parametrize(
    "value", ["tao_toolkit.cosmos", "images.tao_toolkit", "a.b.c", "images.images.tao_toolkit.pyt", "."]
)
def test_a_key_that_leads_nowhere_names_the_variable_and_the_keys(catalog: Catalog, value: str) -> None:
    fault = refusal(catalog, "cosmos-rl", {"IMAGE_COSMOS_RL": value})
    assert "IMAGE_COSMOS_RL" in fault.message
    assert value in fault.message
    assert "tao_toolkit.cosmos_rl" in fault.hint
    assert "vllm.openai" in fault.hint


def test_the_end_of_a_key_is_no_image(catalog: Catalog) -> None:
    fault = refusal(catalog, "cosmos-rl", {"IMAGE_COSMOS_RL": "cosmos_rl"})
    assert "IMAGE_COSMOS_RL=tao_toolkit.cosmos_rl" in fault.hint


@pytest.mark.parametrize("value", ["two words", "-v/x:/y", "repo/a b", "repo/a\x1b[31m:1", "Ubuntu"])
def test_words_that_are_no_image_are_refused(catalog: Catalog, value: str) -> None:
    fault = refusal(catalog, "cosmos-rl", {"IMAGE_COSMOS_RL": value})
    assert "IMAGE_COSMOS_RL" in fault.message
    assert fault.message.isprintable()


@pytest.mark.parametrize("image", [None, ""])
@pytest.mark.parametrize("arch", ["cosmos-rl", "cosmos-predict2.5", "tao-dataservices"])
def test_tao_archs_without_an_image_key_fall_back(catalog: Catalog, arch: str, image: str | None) -> None:
    bare = with_sidecar(catalog, arch, image)
    assert resolve_image(bare, arch, {}).key == "COSMOS_RL"
    assert resolve_image(bare, arch, {"IMAGE_COSMOS_RL": "a/b:1"}).image == "a/b:1"


@pytest.mark.parametrize("image", [None, ""])
def test_other_archs_never_get_the_fallback(catalog: Catalog, image: str | None) -> None:
    fault = refusal(with_sidecar(catalog, "vllm", image), "vllm", {"IMAGE_COSMOS_RL": "a/b:1"})
    assert "references/vllm.config.json" in fault.message


def test_a_sidecar_may_name_an_image_itself(catalog: Catalog) -> None:
    resolved = resolve_image(with_sidecar(catalog, "vllm", "host/a:1"), "vllm", {"IMAGE_VLLM": "b:2"})
    assert (resolved.image, resolved.source) == ("host/a:1", "versions")


def test_an_image_in_the_mapping_passes_through(catalog: Catalog) -> None:
    mapped = with_mapping(catalog, {"VLLM": "host/a:1"})
    assert resolve_image(mapped, "vllm", {}).image == "host/a:1"


def test_a_mapping_that_leads_nowhere_names_the_key(catalog: Catalog) -> None:
    assert "VLLM" in refusal(with_mapping(catalog, {"VLLM": "vllm.gone"}), "vllm", {}).message
    assert "VLLM" in refusal(with_mapping(catalog, {"VLLM": "ubuntu"}), "vllm", {}).message
    missing = refusal(with_mapping(catalog, {"SGLANG": "sglang.runtime"}), "vllm", {})
    assert "VLLM" in missing.message
    assert "SGLANG" in missing.hint


def test_an_unknown_arch_gets_no_image(catalog: Catalog) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_image(catalog, "cosmos-rll", {})
    assert caught.value.code == "unknown_arch"
