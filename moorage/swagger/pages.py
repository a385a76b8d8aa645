"""Swagger UI's page for one OpenAPI document, and the files that it loads from `docs/`."""

from __future__ import annotations

import functools
from importlib import resources
from string import Template

__all__ = ["file", "page"]

INITIALIZER = "initializer.js"
SWAGGER_FILES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-16x16.png": "image/png",
    "favicon-32x32.png": "image/png",
}


def page(title: str, document: str) -> bytes:
    """The HTML of `/docs`. `document`: where the OpenAPI document is, relative to the page; Swagger UI 4 reads 3.0."""
    return Template(_own("page.html").decode()).substitute(title=title, document=document).encode()


def file(name: str) -> tuple[bytes, str] | None:
    """Content and content type of a file under `docs/`; None for any other name."""
    if name == INITIALIZER:
        return _own(name), "text/javascript; charset=utf-8"
    if name in SWAGGER_FILES:
        return _swagger(name), SWAGGER_FILES[name]
    return None


@functools.cache
def _own(name: str) -> bytes:
    return (resources.files("moorage.swagger") / name).read_bytes()


@functools.cache
def _swagger(name: str) -> bytes:
    from swagger_ui_bundle import swagger_ui_path

    content: bytes = (swagger_ui_path / name).read_bytes()
    return content
