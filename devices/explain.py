"""One message from a pydantic ValidationError: where, what was seen, what is allowed, and the nearest key.

>>> from edgesched.devices.model import Noise
>>> try:
...     Noise.model_validate({"cw": 3})
... except ValidationError as error:
...     print(explain(error, Noise, {"cw": 3}).text)
cw: unknown key; did you mean cv? (allowed: distribution, cv)
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from .reading import Location, shown


class Explained(NamedTuple):
    """The first of a ValidationError's complaints, and where it stands in the data."""

    location: Location
    text: str
    """``key: message``"""


def explain(error: ValidationError, model: type[BaseModel], data: Any, prefix: Location = ()) -> Explained:
    """The first error as a sentence. ``prefix`` is what stands before the model in the user's file."""
    errors = error.errors(include_url=False)
    # A key that was mistyped is often reported twice: as unknown and, under its right name, as missing.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    inner = _in_data(first["loc"], data, missing=first["type"] == "missing")
    location = (*prefix, *inner)
    message = _message(first, model, data, inner)
    key = dotted(location)
    if errors[1:]:
        others = len(errors) - 1
        message += f" (and {others} more error{'s' if others > 1 else ''})"
    return Explained(location, f"{key}: {message}" if key else message)


def dotted(location: Location) -> str:
    """``workload.streams.0.name``"""
    return ".".join(str(part) for part in location)


def nearest(key: str, allowed: list[str]) -> str:
    """``; did you mean x? (allowed: x, y)``"""
    close = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ";"
    return (
        f"{hint} (allowed: {', '.join(allowed)})"
        if close
        else f"{hint} allowed: {', '.join(allowed) or 'none'}"
    )


def allowed_keys(model: type[BaseModel]) -> list[str]:
    """The keys that the model takes, by the names that a user writes."""
    return list(_fields(model))


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The model's fields by every name that they may be written under."""
    fields: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
        fields.update((str(choice), field) for choice in choices)
    return fields


def booleans(model: type[BaseModel], data: Any, prefix: Location = ()) -> Iterator[Location]:
    """Where ``data`` holds true or false and the model means a number (pydantic takes them as 1, 0)."""
    if not isinstance(data, Mapping):
        return
    for key, value in data.items():
        field = _fields(model).get(key)
        if field is None:
            continue
        inner = _models(field.annotation)
        for place, item in _leaves(value, (*prefix, key)):
            if isinstance(item, bool) and not _takes(field.annotation, bool):
                yield place
            elif isinstance(item, Mapping) and inner:
                yield from booleans(inner[0], item, place)


def _leaves(value: Any, place: Location) -> Iterator[tuple[Location, Any]]:
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, (*place, index))
    else:
        yield place, value


def _message(first: Any, model: type[BaseModel], data: Any, inner: Location) -> str:
    kind, seen = first["type"], first["input"]
    if kind == "extra_forbidden":
        owner = _model_at(model, data, inner[:-1])
        key, allowed = str(inner[-1]), allowed_keys(owner) if owner else []
        if key in allowed:
            return "means the same as another key that is given beside it; give one of them"
        return f"unknown key{nearest(key, allowed)}"
    if kind == "missing":
        return "is missing; it must be given"
    text = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = _PLAINER.get(kind, text)
    if kind == "literal_error":
        text = f"must be {first['ctx']['expected']}"
    text = text.replace("Input should be", "must be")
    if kind in ("value_error", "kind", "number") or (
        isinstance(seen, Mapping | list | tuple) and kind == "empty"
    ):
        return text
    return f"{text}, seen {shown(seen)}"


_PLAINER = {
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "finite_number": "must be a finite number",
    "string_type": "must be a text",
    "dict_type": "must be a mapping (key: value)",
    "string_too_short": "must not be empty",
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_parsing_size": "is too large",
}


def _in_data(location: tuple[int | str, ...], data: Any, *, missing: bool) -> Location:
    """The location without the parts that pydantic adds (names of validators and of union members)."""
    found: list[str | int] = []
    node: Any = data
    for position, part in enumerate(location):
        last = position == len(location) - 1
        there, inner = _step(node, part)
        if there:
            node = inner
        elif not (last and missing):
            continue
        found.append(part)
    return tuple(found)


def _step(node: Any, part: int | str) -> tuple[bool, Any]:
    """Whether the data have that key or index, and what stands there."""
    if isinstance(node, Mapping):
        return part in node, node.get(part)
    if isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
        return True, node[part]
    return False, None


def _model_at(model: type[BaseModel], data: Any, location: Location) -> type[BaseModel] | None:
    """The model of the mapping that stands at ``location`` of ``data``."""
    current: list[type[BaseModel]] = [model]
    node = data
    for part in location:
        _, node = _step(node, part)
        if isinstance(part, int):
            continue
        current = [m for owner in current for m in _models(_annotation(owner, part))]
        current = [m for m in current if _suits(m, node)] or current
    if not current:
        return None
    inner = [m for field in current[0].model_fields.values() for m in _models(field.annotation)]
    if isinstance(node, Mapping) and len(inner) == 1 and not set(node) & set(_fields(current[0])):
        return inner[0]  # a workload's single stream in the place of its list
    return current[0]


def _annotation(owner: type[BaseModel], key: str) -> Any:
    for candidate in (owner, *(m for f in owner.model_fields.values() for m in _models(f.annotation))):
        # A workload's single stream may stand in the place of its list, so look one level down as well.
        if key in (fields := _fields(candidate)):
            return fields[key].annotation
    return None


def _suits(model: type[BaseModel], node: Any) -> bool:
    """Whether the constants of the model (``process: poisson``) are those of the data."""
    if not isinstance(node, Mapping):
        return True
    for key, field in model.model_fields.items():
        if (
            get_origin(field.annotation) is Literal
            and key in node
            and node[key] not in get_args(field.annotation)
        ):
            return False
    return True


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation names, within unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _models(get_args(annotation)[0])
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _takes(annotation: Any, kind: type) -> bool:
    if annotation is Any or annotation is kind:
        return True
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return any(_takes(argument, kind) for argument in get_args(annotation))
    return any(
        _takes(argument, kind)
        for argument in get_args(annotation)
        if isinstance(argument, type) or get_args(argument)
    )
