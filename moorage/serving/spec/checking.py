"""A document → a spec that can be served, or every fault in it at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from moorage.serving.spec.argument_types import shown
from moorage.serving.spec.faults import Fault, SpecFaults, pointer
from moorage.serving.spec.kwargs import KwargTable, command_line_faults, kwarg_faults
from moorage.serving.spec.names import SUFFIX_RULE, valid_suffix
from moorage.serving.spec.place import Place, Places, look
from moorage.serving.spec.rules import SpecRules
from moorage.serving.spec.scalars import Unclear
from moorage.serving.spec.source import SourcePath, read_source
from moorage.serving.spec.spec import Adapter, Autoscaling, ServingSpec

__all__ = ["FIELDS", "check_spec"]

FIELDS = (
    "model_id",
    "model_source",
    "num_replicas",
    "gpus_per_replica",
    "engine_kwargs",
    "ttl_s",
    "autoscaling",
    "lora",
)
"""Of a spec, in the order in which documents show them."""
PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size")
LONGEST_TTL_S = 10 * 365 * 86400
MOST_ADAPTERS = 64

_HINTS = MappingProxyType({"accelerator_type": "the platform sets it, for every model alike"})
_ABSENT: Any = object()


def check_spec(
    document: Mapping[str, Any], *, user_id: str, rules: SpecRules, settled: Collection[str] = ()
) -> ServingSpec:
    """The spec that a document of `read_document` declares; what it leaves out has its default.

    Looks at the file system (`model_source` and the sources of `lora`), never at the network. `settled`: fields that
    were accepted before and are not being changed; that their files are gone meanwhile is no fault here, so that a
    model can be scaled down then. That they lead to a forbidden place is. Raises SpecFaults.
    """
    reader = _Reader(document=document, user_id=user_id, rules=rules, settled=settled)
    spec = reader.read()
    if reader.faults:
        raise SpecFaults(reader.faults)
    return spec


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Reads field by field; a field with a fault gives any value, since the spec is not used then."""

    document: Mapping[str, Any]
    user_id: str
    rules: SpecRules
    settled: Collection[str]
    faults: list[Fault] = field(default_factory=list)
    places: Places | None = None

    def read(self) -> ServingSpec:
        for name in self.document:
            if name not in FIELDS:
                hint = _HINTS.get(name, f"the fields are {', '.join(FIELDS)}")
                self._fault((name,), f"there is no field {shown(name)}", "unknown_field", hint=hint)
        self.faults += [*_unclear(self.document, ())]
        limits = self.rules.limits
        spec = ServingSpec(
            model_id=self._model_id(),
            model_source=self._source(("model_source",), self.document.get("model_source", _ABSENT)),
            num_replicas=self._count(("num_replicas",), self._given("num_replicas", 1), limits.replicas),
            gpus_per_replica=self._count(
                ("gpus_per_replica",), self._given("gpus_per_replica", 1), limits.gpus_per_replica
            ),
            engine_kwargs=self._engine_kwargs(),
            ttl_s=self._ttl(),
            autoscaling=self._autoscaling(),
            lora=self._adapters(),
        )
        self._parallel(spec)
        return spec

    def _given(self, name: str, default: Any) -> Any:
        return self.document.get(name, default)

    def _model_id(self) -> str:
        value = self._given("model_id", _ABSENT)
        if value is _ABSENT:
            self._fault(("model_id",), "model_id is missing", "missing_field")
        elif not isinstance(value, str):
            self._wrong(("model_id",), value, "text")
        elif not valid_suffix(value):
            detail = f"model_id must be {SUFFIX_RULE}, and {shown(value)} is not"
            self._fault(("model_id",), detail, "invalid_model_id")
        else:
            return value
        return ""

    def _source(self, place: tuple[str | int, ...], value: Any) -> str:
        at = pointer(place)
        name = ".".join(map(str, place))
        if value is _ABSENT:
            self._fault(place, f"{name} is missing", "missing_field")
            return ""
        if isinstance(value, Unclear):
            return ""
        source = read_source(value, self.user_id, self.rules.root, at)
        if isinstance(source, Fault):
            self.faults.append(source)
            return ""
        if isinstance(source, SourcePath):
            self.places = self.places or Places.of(self.user_id, self.rules.root)
            fault = _place_fault(look(source, self.places), source, self.user_id, at, name)
            if fault and not (place[0] in self.settled and fault.status != 403):
                self.faults.append(fault)
        return source.text

    def _count(self, place: tuple[str | int, ...], value: Any, most: int) -> int:
        """A whole number from 1 on; out of bounds is 422, since it is understood and cannot be had."""
        name = ".".join(map(str, place))
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong(place, value, "a whole number")
            return 1
        if not 1 <= value <= most:
            detail = f"{name} must be from 1 to {most}, and {shown(value)} is not"
            self._fault(place, detail, "out_of_range", status=422)
        return value

    def _engine_kwargs(self) -> dict[str, Any]:
        value = self._given("engine_kwargs", {})
        if not isinstance(value, dict):
            self._wrong(("engine_kwargs",), value, "a mapping of arguments to values")
            return {}
        told = {fault.pointer for fault in self.faults}
        # A word that is unclear has its fault already, and is of no type.
        table, found = self.rules.engine_kwargs, []
        for fault in (*kwarg_faults(value, table), *self._unsayable(value, table)):
            if fault.pointer not in told:
                told.add(fault.pointer)
                found.append(fault)
        self.faults += found
        return value

    def _unsayable(self, kwargs: Mapping[str, Any], table: KwargTable) -> Iterator[Fault]:
        return command_line_faults(kwargs, table) if self.rules.by_command_line else iter(())

    def _ttl(self) -> float | None:
        value = self._given("ttl_s", None)
        if value is None:
            return None
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            self._wrong(("ttl_s",), value, "a number of seconds, or null")
            return None
        if not 0 < value <= LONGEST_TTL_S:
            detail = f"ttl_s must be more than 0 and at most {LONGEST_TTL_S}, and {shown(value)} is not"
            self._fault(("ttl_s",), detail, "out_of_range")
        return value

    def _autoscaling(self) -> Autoscaling | None:
        value = self._given("autoscaling", None)
        if value is None:
            return None
        if not isinstance(value, dict):
            self._wrong(("autoscaling",), value, "null, or a mapping with min_replicas and max_replicas")
            return None
        if not self.rules.has_autoscaling:
            detail = "the backend of this platform does not follow the load"
            self._fault(("autoscaling",), detail, "backend_has_no_autoscaling", hint="leave `autoscaling` out")
        self._only(("autoscaling",), value, ("min_replicas", "max_replicas"))
        bounds = []
        for name in ("min_replicas", "max_replicas"):
            if name in value:
                bounds.append(self._count(("autoscaling", name), value[name], self.rules.limits.replicas))
            else:
                self._fault(("autoscaling", name), f"autoscaling.{name} is missing", "missing_field")
        if len(bounds) < 2:
            return None
        if bounds[0] > bounds[1]:
            detail = f"autoscaling.min_replicas is {shown(bounds[0])}, more than max_replicas"
            self._fault(("autoscaling",), detail, "invalid_autoscaling")
        return Autoscaling(min_replicas=bounds[0], max_replicas=bounds[1])

    def _adapters(self) -> tuple[Adapter, ...]:
        value = self._given("lora", [])
        if not isinstance(value, list):
            self._wrong(("lora",), value, "a list of {name, source}")
            return ()
        if value and not self.rules.has_lora:
            detail = "the backend of this platform serves no LoRA adapters"
            self._fault(("lora",), detail, "backend_has_no_lora", hint="leave `lora` out")
        if len(value) > MOST_ADAPTERS:
            self._fault(("lora",), f"lora has {len(value)} adapters, and {MOST_ADAPTERS} is the most", "out_of_range")
            return ()
        names: set[str] = set()
        return tuple(self._adapter(index, item, names) for index, item in enumerate(value))

    def _adapter(self, index: int, item: Any, names: set[str]) -> Adapter:
        place = ("lora", index)
        if not isinstance(item, dict):
            self._wrong(place, item, "a mapping with name and source")
            return Adapter(name="", source="")
        self._only(place, item, ("name", "source"))
        name = item.get("name", _ABSENT)
        if name is _ABSENT:
            self._fault((*place, "name"), f"lora.{index}.name is missing", "missing_field")
        elif not isinstance(name, str):
            self._wrong((*place, "name"), name, "text")
        elif not valid_suffix(name):
            self._fault((*place, "name"), f"lora.{index}.name must be {SUFFIX_RULE}", "invalid_name")
        elif name in names:
            self._fault((*place, "name"), f"lora.{index}.name is the name of another adapter", "duplicate_name")
        else:
            names.add(name)
        source = self._source((*place, "source"), item.get("source", _ABSENT))
        return Adapter(name=name if isinstance(name, str) else "", source=source)

    def _only(self, place: tuple[str | int, ...], value: Mapping[str, Any], names: tuple[str, ...]) -> None:
        for name in value:
            if name not in names:
                hint = f"the fields are {', '.join(names)}"
                self._fault((*place, name), f"there is no field {shown(name)}", "unknown_field", hint=hint)

    def _parallel(self, spec: ServingSpec) -> None:
        """The engine spreads a replica over as many GPUs as these two say: they must be those that are counted.

        Without a tensor parallel size the backend takes the one that fits.
        """
        places = {"/gpus_per_replica", "/engine_kwargs", *(pointer(("engine_kwargs", name)) for name in PARALLEL)}
        if any(fault.pointer in places for fault in self.faults):
            return
        tensor, pipeline = (spec.engine_kwargs.get(name) for name in PARALLEL)
        stages = pipeline or 1
        fits = spec.gpus_per_replica % stages == 0 if tensor is None else tensor * stages == spec.gpus_per_replica
        if not fits:
            self._fault(
                ("engine_kwargs",),
                f"tensor_parallel_size times pipeline_parallel_size must be gpus_per_replica, {spec.gpus_per_replica}",
                "parallel_size_mismatch",
                hint="make them equal, or leave the sizes out",
            )

    def _wrong(self, place: tuple[str | int, ...], value: Any, wanted: str) -> None:
        if not isinstance(value, Unclear):  # which has its fault already
            name = ".".join(map(str, place))
            self._fault(place, f"{name} must be {wanted}, and {shown(value)} is not", "wrong_type")

    def _fault(
        self, place: tuple[str | int, ...], detail: str, code: str, *, hint: str = "", status: int = 400
    ) -> None:
        self.faults.append(Fault(pointer=pointer(place), detail=detail, code=code, hint=hint, status=status))


def _unclear(value: Any, place: tuple[str | int, ...]) -> Iterator[Fault]:
    """Every word that YAML's versions read differently; documents are not deep."""
    if isinstance(value, Unclear):
        yield Fault(
            pointer=pointer(place),
            detail=f"{shown(value.text)} {value.why}",
            code="unclear_value",
            hint="put text in quotes; write numbers in decimal digits, and true or false",
        )
    inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield from _unclear(item, (*place, key))


def _place_fault(place: Place, source: SourcePath, user_id: str, at: str, name: str) -> Fault | None:
    path = shown(source.text)
    if place is Place.FORBIDDEN:
        # Nothing here may depend on what is at the path, or on where its links lead.
        return Fault(
            pointer=at,
            detail=f"{name} leads to {path}, which {user_id} may not serve from",
            code="model_source_forbidden",
            status=403,
            hint="models are served from $HOME and $HOME/common/hf; links that leave them are not followed",
        )
    if place is Place.MISSING:
        return Fault(
            pointer=at, detail=f"{name}: there is no file or folder {source.text}", code="model_source_not_found"
        )
    if place is Place.UNREADABLE:
        return Fault(pointer=at, detail=f"{name}: {source.text} cannot be read", code="model_source_unreadable")
    if place is Place.CROWDED:
        detail = f"{name}: {path} has more entries or links than a model has"
        return Fault(pointer=at, detail=detail, code="model_source_too_large")
    return None
