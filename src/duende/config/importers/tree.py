"""JSON and YAML as one kind of tree, in which every value knows its line; the parsers of the standard library and of
PyYAML keep no lines in what they build.

JSON is read as pm2 reads it: comments and commas before a closing bracket are allowed. YAML's plain words are read by
version 1.2's core schema, as docker compose does: `no` and `on` are text, `22:22` is no number.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # untyped; a string's escapes, as json reads them
from typing import Any, TypeAlias

from duende.config.importers.draft import Place, refuse

__all__ = ["Node", "read_json", "read_yaml"]

Scalar: TypeAlias = str | int | float | bool | None
_DEPTH_MAX = 64
_NODES_MAX = 200_000  # aliases in YAML can make a short file very large («billion laughs»)
_JSON_BLANK = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_JSON_WORD = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")
# YAML 1.2.2, 10.3.2: tag resolution of the core schema.
_YAML_WORDS: dict[str, Scalar] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_YAML_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_YAML_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its line. A mapping's is `dict[str, Node]`, a list's `list[Node]`."""

    value: Any
    line: int
    text: str = ""  # a scalar as it was written: `1.10` is text for many purposes

    @property
    def plain(self) -> Any:
        """The value without lines."""
        match self.value:
            case dict():
                return {key: node.plain for key, node in self.value.items()}
            case list():
                return [node.plain for node in self.value]
            case _:
                return self.value

    def items(self) -> Iterator[tuple[str, Node]]:
        """The pairs of a mapping; nothing for another value."""
        yield from self.value.items() if isinstance(self.value, dict) else ()


class _Json:
    def __init__(self, text: str, place: Place) -> None:
        self.text, self.place, self.position = text, place, 0

    def document(self) -> Node:
        self.skip()
        node = self.value(0)
        self.skip()
        if self.position < len(self.text):
            self.wrong("there is more after the end of the value")
        return node

    def skip(self) -> None:
        match = _JSON_BLANK.match(self.text, self.position)
        assert match is not None  # it matches nothing, too
        self.position = match.end()

    @property
    def line(self) -> int:
        return self.text.count("\n", 0, self.position) + 1

    def wrong(self, reason: str) -> None:
        raise refuse(self.place.at(self.line), f"is not JSON: {reason}")

    def peek(self) -> str:
        self.skip()
        return self.text[self.position : self.position + 1]

    def value(self, depth: int) -> Node:
        if depth > _DEPTH_MAX:
            self.wrong(f"it is nested more than {_DEPTH_MAX} deep")
        line, char = self.line, self.peek()
        if char == "{":
            return Node(self.mapping(depth), line)
        if char == "[":
            return Node(self.items(depth), line)
        if char == '"':
            text = self.string()
            return Node(text, line, text)
        match = _JSON_WORD.match(self.text, self.position)
        if match is None:
            self.wrong(f"expected a value, found {char!r}" if char else "it ends too early")
            raise AssertionError  # `wrong` has raised
        self.position = match.end()
        word = match[0]
        plain: Scalar = {"true": True, "false": False, "null": None}.get(word)
        if plain is None and word != "null":
            plain = int(word) if word.lstrip("-").isdigit() and len(word) < 20 else float(word)
        return Node(plain, line, word)

    def string(self) -> str:
        try:
            text, self.position = scanstring(self.text, self.position + 1, True)
        except ValueError as error:
            self.wrong(str(error).lower())
        return str(text)

    def mapping(self, depth: int) -> dict[str, Node]:
        result: dict[str, Node] = {}
        self.position += 1
        while self.peek() != "}":
            if self.peek() != '"':
                self.wrong(f"expected a key in double quotes, found {self.peek()!r}")
            line = self.line
            key = self.string()
            if self.peek() != ":":
                self.wrong("expected `:` after a key")
            self.position += 1
            node = self.value(depth + 1)
            result[key] = Node(node.value, line, node.text)
            self.comma("}")
        self.position += 1
        return result

    def items(self, depth: int) -> list[Node]:
        result = []
        self.position += 1
        while self.peek() != "]":
            self.skip()
            result.append(self.value(depth + 1))
            self.comma("]")
        self.position += 1
        return result

    def comma(self, end: str) -> None:
        char = self.peek()
        if char == ",":
            self.position += 1
        elif char != end:
            self.wrong(f"expected `,` or `{end}`, found {char!r}" if char else "it ends too early")


def read_json(text: str, place: Place) -> Node:
    """The tree of a JSON file; ConfigurationError with the line."""
    return _Json(text, place).document()


def read_yaml(text: str, place: Place) -> Node:
    """The tree of a YAML file; ConfigurationError with the line, or without PyYAML with what to install."""
    try:
        # Here: only compose files need it, and it is an extra. By name: it has no types of its own.
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        hint = "install it: pip install 'duende[import]'"
        raise refuse(place.at(), "is YAML, and reading that needs PyYAML, which is not installed", hint) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error)
        raise refuse(place.at(mark.line + 1 if mark else 0), f"is not YAML: {reason}") from None
    except RecursionError:
        raise refuse(place.at(), "is not YAML that can be read: it is nested too deep") from None
    if root is None:
        raise refuse(place.at(), "is empty")
    return _Yaml(place).node(root, 0)


class _Yaml:
    def __init__(self, place: Place) -> None:
        self.place, self.count = place, 0

    def node(self, node: Any, depth: int) -> Node:
        line = node.start_mark.line + 1
        self.count += 1
        if depth > _DEPTH_MAX or self.count > _NODES_MAX:
            raise refuse(self.place.at(line), "is not YAML that can be read: an alias makes it endless or too large")
        match node.id:
            case "scalar":
                return Node(_scalar(node), line, node.value)
            case "sequence":
                return Node([self.node(item, depth + 1) for item in node.value], line)
            case _:
                return Node(self.mapping(node, depth), line)

    def mapping(self, node: Any, depth: int) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in node.value:
            if key.id != "scalar":
                raise refuse(self.place.at(key.start_mark.line + 1), "has a key that is no plain word")
            child = self.node(value, depth + 1)
            if key.value == "<<" and key.style is None:
                for source in child.value if isinstance(child.value, list) else [child]:
                    for name, item in source.items():
                        merged.setdefault(name, item)
            else:
                own[key.value] = Node(child.value, key.start_mark.line + 1, child.text)
        return {**merged, **own}


def _scalar(node: Any) -> Scalar:
    word: str = node.value
    if node.style is not None or (node.tag == "tag:yaml.org,2002:str" and node.start_mark is None):
        return word
    if word in _YAML_WORDS:
        return _YAML_WORDS[word]
    if _YAML_INTEGER.fullmatch(word) and len(word) < 20:
        return int(word, 0) if word[:2] in ("0o", "0x") else int(word)
    return float(word) if _YAML_FLOAT.fullmatch(word) and len(word) < 40 else word
