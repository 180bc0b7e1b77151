"""The YAML that configuration may use: no aliases, no key twice, nothing of unbounded cost."""

import re
from collections import Counter
from typing import Any

import yaml

MAX_NUMBER = 100
MAX_VALUES = 5000  # keys, values, lists and mappings: what is read takes time for each
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
_SURROGATE = re.compile("[\\ud800-\\udfff]")


def parse_yaml(text: bytes) -> Any:
    """The content, any plain value; raises ValueError, in one line, for anything else."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader, made stricter
    except yaml.YAMLError as error:
        raise ValueError(_place_of(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_documents(text: bytes) -> list[Any]:
    """Every document of a text, any plain values; raises ValueError as `parse_yaml` does."""
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise ValueError(_place_of(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _place_of(error: yaml.YAMLError) -> str:
    """Where it is and what is wrong there, in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or error)
    if "another document" in problem:
        problem = "a second document begins here (---); one file is one configuration"
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return " ".join(f"{where}{problem}".split())


class _Loader(yaml.SafeLoader):
    """YAML without aliases (they can grow without bound), without repeated keys, without text
    that no path or message can contain; what looks like a date is text."""

    values = 0

    yaml_constructors = yaml.SafeLoader.yaml_constructors | {
        "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_yaml_str
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML
            raise _refused(f"alias *{event.anchor} is not allowed", event)
        self.values += 1
        if self.values > MAX_VALUES:
            raise _refused(f"more than {MAX_VALUES} keys and values", self.peek_event())  # type: ignore[no-untyped-call]  # PyYAML
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [str(key.value) for key, _ in node.value]
        if len(set(keys)) < len(keys):
            twice = next(key for key, times in Counter(keys).items() if times > 1)
            raise _refused(f"key {twice!r} is there twice", node)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError) as error:  # `!!int text`, `!!int`, `!!bool text`
            raise _refused(
                f"it is not a valid {node.tag.rpartition(':')[2]}: {error}", node
            ) from error

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if node.tag in _NUMBERS and len(text) > MAX_NUMBER:
            raise _refused(f"a number of more than {MAX_NUMBER} characters", node)
        if "\0" in text or _SURROGATE.search(text):
            raise _refused("a character that text cannot have", node)
        return text


def _refused(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
