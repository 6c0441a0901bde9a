"""TypedDict to JSON Schema, and a check of JSON values against the same TypedDicts.

Requests are checked by the types that the OpenAPI document publishes, so the two can't disagree. Only what
`types.py` uses is understood; anything else is a TypeError when the route table is loaded by a test.
"""

from __future__ import annotations

import difflib
import functools
import types
from collections.abc import Iterator
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from duende.api.types import MinItems

__all__ = ["Schemas", "problems_in"]

_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    Any: {},
}
_SAID: dict[Any, str] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


class Schemas:
    """Collects the named schemas (`components.schemas`) that a document refers to."""

    def __init__(self) -> None:
        self.named: dict[str, dict[str, Any]] = {}

    def of(self, tp: Any) -> dict[str, Any]:
        """The schema of a type; TypedDicts become references."""
        if is_typeddict(tp):
            name = tp.__name__.removesuffix("Wire")
            if name not in self.named:
                self.named[name] = {}  # so that a type that holds itself ends
                self.named[name] = self._object(tp)
            return {"$ref": f"#/components/schemas/{name}"}
        if tp in _SCALARS:
            return dict(_SCALARS[tp])
        origin, args = get_origin(tp), get_args(tp)
        if origin is Annotated:
            schema = self.of(args[0])
            for note in args[1:]:
                if isinstance(note, MinItems):
                    schema["minItems"] = note.count
            return schema
        if origin is Literal:
            return {"enum": list(args)}
        if origin in (types.UnionType, Union):
            return {"anyOf": [self.of(arg) for arg in args]}
        if origin is list:
            return {"type": "array", "items": self.of(args[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(args[1])}
        raise TypeError(f"no JSON schema for {tp!r}")

    def _object(self, tp: Any) -> dict[str, Any]:
        fields = _fields(tp)
        return {
            "type": "object",
            "description": " ".join((tp.__doc__ or "").split()),
            "properties": {name: self.of(field) for name, (field, _) in fields.items()},
            "required": [name for name, (_, required) in fields.items() if required],
        }


def problems_in(tp: Any, value: object, where: str = "") -> list[str]:
    """Say all that is wrong with a decoded JSON value, as `where: expected X, found Y`; empty when it fits."""
    if is_typeddict(tp):
        return list(_object_problems(tp, value, where))
    origin, args = get_origin(tp), get_args(tp)
    if origin is Annotated:
        found = problems_in(args[0], value, where)
        for note in args[1:]:
            if isinstance(note, MinItems) and not found and isinstance(value, list) and len(value) < note.count:
                found.append(f'{where}: needs at least {note.count} item (["*"] means all daemons)')
        return found
    if origin is list:
        if not isinstance(value, list):
            return [_mismatch(tp, value, where)]
        return [problem for n, item in enumerate(value) for problem in problems_in(args[0], item, f"{where}[{n}]")]
    if origin is dict:
        if not isinstance(value, dict):
            return [_mismatch(tp, value, where)]
        return [problem for key, item in value.items() for problem in problems_in(args[1], item, f"{where}.{key}")]
    if origin in (types.UnionType, Union):
        fits = any(not problems_in(arg, value, where) for arg in args)
        return [] if fits else [_mismatch(tp, value, where)]
    if origin is Literal:
        return [] if isinstance(value, str) and value in args else [_mismatch(tp, value, where)]
    return [] if _is_scalar(tp, value) else [_mismatch(tp, value, where)]


def _object_problems(tp: Any, value: object, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where or 'the body'}: expected an object, found {_found(value)}"
        return
    fields = _fields(tp)
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(fields)}"
            yield f"{prefix}{key}: unknown key ({hint})"
    for name, (field, required) in fields.items():
        if name in value:
            yield from problems_in(field, value[name], f"{prefix}{name}")
        elif required:
            yield f"{prefix}{name}: missing"


@functools.cache  # as many entries as there are wire types
def _fields(tp: Any) -> dict[str, tuple[Any, bool]]:
    """Each field's type, and whether it must be there."""
    fields = {}
    for name, hint in get_type_hints(tp, include_extras=True).items():
        required = True
        if get_origin(hint) in (NotRequired, Required):
            required = get_origin(hint) is Required
            hint = get_args(hint)[0]
        fields[name] = (hint, required)
    return fields


def _is_scalar(tp: Any, value: object) -> bool:
    if tp is Any:
        return True
    if tp is float:  # JSON has one kind of number; NaN and infinities are refused when the body is parsed
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if tp is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, tp)


def _mismatch(tp: Any, value: object, where: str) -> str:
    return f"{where}: expected {_said(tp)}, found {_found(value)}"


def _said(tp: Any) -> str:
    origin, args = get_origin(tp), get_args(tp)
    if origin in (types.UnionType, Union):
        return " or ".join(_said(arg) for arg in args)
    if origin is Literal:
        return "one of " + ", ".join(args)
    if origin is list:
        return "an array"
    if origin is dict or is_typeddict(tp):
        return "an object"
    return _SAID.get(tp, str(tp))


def _found(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
