"""Which values must never stand in what replicas wrote and users read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import unquote, urlsplit

from moorage.serving.settings import Settings

__all__ = ["secrets_of"]

DATABASE_PASSWORD = "PGPASSWORD"  # noqa: S105 - the variable's name
TOKEN_OPTION = "token_env"  # noqa: S105 - the option's name


def secrets_of(
    settings: Settings, environ: Mapping[str, str], hidden: Collection[str], known: Collection[str]
) -> dict[str, str]:
    """Name → value of every secret that this control plane holds, as far as it is set.

    `hidden`: the variables of its own tokens; `known`: those that the catalog calls secret.
    """
    config = settings.config
    named = (config.ray.token_env, config.launch.options.get(TOKEN_OPTION))
    names = [*hidden, *known, DATABASE_PASSWORD, *(name for name in named if isinstance(name, str))]
    found = {name: environ[name].strip() for name in names if environ.get(name, "").strip()}
    password = _password_of(settings.db)
    return found | ({"database password": password} if password else {})


def _password_of(url: str) -> str:
    """As it is, not as a URL writes it; "" when there is none."""
    try:
        return unquote(urlsplit(url).password or "")
    except ValueError:
        return ""
