"""Swagger UI's pages, with nothing from another host."""

from __future__ import annotations

import functools
from importlib import resources

__all__ = ["file", "page"]

OWN_FILES = {"initializer.js": "text/javascript; charset=utf-8"}
SWAGGER_FILES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-16x16.png": "image/png",
    "favicon-32x32.png": "image/png",
}


def page() -> bytes:
    """The HTML of `/docs`."""
    return _own("page.html")


def file(name: str) -> tuple[bytes, str] | None:
    """Content and content type of a file of the pages; None for any other name."""
    if name in OWN_FILES:
        return _own(name), OWN_FILES[name]
    if name in SWAGGER_FILES:
        return _swagger(name), SWAGGER_FILES[name]
    return None


@functools.cache
def _own(name: str) -> bytes:
    return (resources.files("moorage.serving.api.openapi") / name).read_bytes()


@functools.cache
def _swagger(name: str) -> bytes:
    from swagger_ui_bundle import swagger_ui_path

    content: bytes = (swagger_ui_path / name).read_bytes()
    return content
