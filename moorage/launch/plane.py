"""The launch plane of one command: its environment, its registry, its catalog and its platforms.

Made once at the edge and passed to every use case; nothing here is global.
"""

from __future__ import annotations

from collections.abc import Mapping

from moorage.launch.places import state_path
from moorage.launch.platforms import open_platform
from moorage.launch.registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from moorage.catalog.catalog import Catalog
    from moorage.launch.platforms.base import Platform


class Plane:
    """Everything a use case needs from outside. Opens nothing until it is asked.

    `platforms` takes the place of the real ones by name: for measuring and testing what stands above them.
    """

    def __init__(self, environ: Mapping[str, str], platforms: Mapping[str, Platform] | None = None) -> None:
        self.environ = environ
        self.registry = Registry(state_path(environ))
        self._catalog: Catalog | None = None
        self._platforms: dict[str, Platform] = dict(platforms or {})

    @property
    def catalog(self) -> Catalog:
        """The reference files, read once and only when needed: `moor list` of dead services reads none."""
        if self._catalog is None:
            from moorage.catalog.bundle import bundle_root
            from moorage.catalog.catalog import load_catalog

            self._catalog = load_catalog(bundle_root(self.environ))
        return self._catalog

    def platform(self, name: str) -> Platform:
        """The platform of that name. Raises UsageError when there is none."""
        if name not in self._platforms:
            self._platforms[name] = open_platform(name, self.environ)
        return self._platforms[name]

    def secrets(self) -> dict[str, str]:
        """Name → value of the secret variables that are set, for redaction and for refusing to send them."""
        return {name: self.environ[name] for name in self.catalog.secret_names if self.environ.get(name)}
