"""The selectors of claims and device classes, as far as they are comparisons; pure.

What is not one is left to `others`, CEL itself where it is installed, and else not known. `and`,
`or` and parentheses are split here, so that what is known of a part counts.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deviceplugin.scheduler.published import IDENTITY, MAX_KEPT, Kind
from deviceplugin.scheduler.quantities import parse_quantity

Known = bool | None  # None: it cannot be said
Judge = Callable[[Kind], Known]
Others = Callable[[str], Judge | None]  # a judge for an expression, if it can be read

_NAME = r"device\.{of}\[\s*[\"'](?P<domain>[^\"']+)[\"']\s*\](?:\.|\.\?)(?P<name>\w+)"
_ATTRIBUTE, _CAPACITY = _NAME.format(of="attributes"), _NAME.format(of="capacity")
_SIGN = r"(?P<sign>==|!=|<=|>=|<|>)"
_LITERAL = r"(?P<literal>\"[^\"]*\"|'[^']*'|-?\d+|true|false)"
_CALLED = r"\(\s*(?:quantity|semver)\(\s*[\"'](?P<than>[^\"']+)[\"']\s*\)\s*\)"
_DRIVER = re.compile(rf"device\.driver\s*{_SIGN}\s*{_LITERAL}")
_PLAIN = re.compile(rf"{_ATTRIBUTE}(?:\.orValue\([^()]*\))?\s*{_SIGN}\s*{_LITERAL}")
_FLAG = re.compile(rf"(?P<no>!)?\s*{_ATTRIBUTE}")
_ONE_OF = re.compile(rf"{_ATTRIBUTE}\s+in\s+\[(?P<list>[^\[\]]*)\]")
_THERE = re.compile(r"[\"'](?P<name>\w+)[\"']\s+in\s+device\.attributes\[[\"'](?P<domain>[^\"']+)")
_COMPARED = re.compile(rf"(?:{{of}})\.compareTo{_CALLED}\s*{_SIGN}\s*0".replace("{of}", _CAPACITY))
_COMPARED_VERSION = re.compile(rf"{_ATTRIBUTE}\.compareTo{_CALLED}\s*{_SIGN}\s*0")
_THAN = re.compile(rf"{_CAPACITY}\.is(?P<way>Greater|Less)Than{_CALLED}")
_THAN_VERSION = re.compile(rf"{_ATTRIBUTE}\.is(?P<way>Greater|Less)Than{_CALLED}")
_SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "Greater": operator.gt,
    "Less": operator.lt,
}
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def not_known(_: str) -> Judge | None:
    """No other expression is read."""
    return None


class Selecting:
    """Which kinds of devices selectors take; each pair is judged once."""

    def __init__(self, others: Others = not_known) -> None:
        self._others = others
        self._judges: dict[str, Judge] = {}
        self._known: dict[tuple[str, Kind], Known] = {}

    def takes(self, selectors: tuple[str, ...], kind: Kind) -> Known:
        """Whether all of them take it. A selector that cannot be judged may take a device only if
        it names the device's driver."""
        found: Known = True
        for selector in selectors:
            one = self._one(selector, kind)
            if one is False or (one is None and kind.driver not in selector):
                return False
            found = found and one
        return found

    def _one(self, selector: str, kind: Kind) -> Known:
        key = (selector, kind)
        if key not in self._known:
            if len(self._known) >= MAX_KEPT:
                self._known.clear()
                self._judges.clear()
            if selector not in self._judges:
                self._judges[selector] = self._parsed(selector.strip())
            self._known[key] = self._judges[selector](kind)
        return self._known[key]

    def _parsed(self, text: str) -> Judge:
        for sign, end in (("||", True), ("&&", False)):
            parts = list(_split(text, sign))
            if len(parts) > 1:
                return _any_of([self._parsed(part) for part in parts], end)
        if text.startswith("(") and text.endswith(")"):
            return self._parsed(text[1:-1].strip())
        found = next((judge for make in _FORMS if (judge := make(text)) is not None), None)
        if found is None and not _names_identity(text):
            found = self._others(text)
        return found or (lambda kind: None)


def _any_of(judges: list[Judge], end: bool) -> Judge:
    """Kleene's `or` with an end of True, `and` with one of False."""

    def judged(kind: Kind) -> Known:
        said = [judge(kind) for judge in judges]
        return end if end in said else None if None in said else not end

    return judged


def _split(text: str, sign: str) -> Iterator[str]:
    """The parts between signs that are in no quotes and no brackets."""
    hidden = _QUOTED.sub(lambda found: "x" * len(found[0]), text)
    depth = start = 0
    for at, char in enumerate(hidden):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0 and hidden.startswith(sign, at):
            yield text[start:at].strip()
            start = at + len(sign)
    yield text[start:].strip()


def _names_identity(text: str) -> bool:
    return any(re.search(rf"\b{name}\b", text) for name in IDENTITY)


def _of_driver(text: str) -> Judge | None:
    if (found := _DRIVER.fullmatch(text)) is None:
        return None
    compare, literal = _SIGNS[found["sign"]], _literal(found["literal"])
    return lambda kind: compare(kind.driver, literal)


def _of_attribute(text: str) -> Judge | None:
    found = _PLAIN.fullmatch(text)
    if found is None or found["name"] in IDENTITY:
        return None
    compare, literal = _SIGNS[found["sign"]], _literal(found["literal"])

    def judged(kind: Kind) -> Known:
        value = _attribute(kind, found)
        return type(value) is type(literal) and compare(value, literal)

    default = re.search(r"orValue\(\s*(.*?)\s*\)", text)
    return judged if default is None else _or_default(found, default[1], (compare, literal))


def _or_default(
    found: re.Match[str], default: str, by: tuple[Callable[[Any, Any], bool], Any]
) -> Judge | None:
    if not re.fullmatch(_LITERAL, default):
        return None
    (compare, literal), instead = by, _literal(default)

    def judged(kind: Kind) -> Known:
        value = _attribute(kind, found)
        value = instead if value is None else value
        return type(value) is type(literal) and compare(value, literal)

    return judged


def _of_flag(text: str) -> Judge | None:
    found = _FLAG.fullmatch(text)
    if found is None or found["name"] in IDENTITY:
        return None
    return lambda kind: _attribute(kind, found) is (found["no"] is None)


def _of_list(text: str) -> Judge | None:
    found = _ONE_OF.fullmatch(text)
    if found is None or found["name"] in IDENTITY:
        return None
    parts = [part.strip() for part in found["list"].split(",")]
    if not all(re.fullmatch(_LITERAL, part) for part in parts):
        return None
    literals = [_literal(part) for part in parts]
    return lambda kind: _attribute(kind, found) in literals


def _of_presence(text: str) -> Judge | None:
    found = _THERE.match(text)
    if found is None or not re.fullmatch(r"[\"']\s*\]", text[found.end() :]):
        return None
    if found["name"] in IDENTITY:
        return None
    return lambda kind: _key(kind, found) in kind.attributes


def _of_capacity(text: str) -> Judge | None:
    found = _COMPARED.fullmatch(text) or _THAN.fullmatch(text)
    if found is None:
        return None
    compare = _SIGNS[found.groupdict().get("sign") or found["way"]]
    try:
        than = parse_quantity(found["than"])
    except ValueError:
        return None

    def judged(kind: Kind) -> Known:
        has = kind.capacity.get(_key(kind, found))
        return has is not None and compare(parse_quantity(has), than)

    return judged


def _of_version(text: str) -> Judge | None:
    found = _COMPARED_VERSION.fullmatch(text) or _THAN_VERSION.fullmatch(text)
    if found is None or not re.fullmatch(r"\d+\.\d+\.\d+", found["than"]):
        return None
    compare, than = _SIGNS[found.groupdict().get("sign") or found["way"]], _version(found["than"])

    def judged(kind: Kind) -> Known:
        has = kind.attributes.get(_key(kind, found), {}).get("version", "")
        return _version(has) != () and compare(_version(has), than)

    return judged


_FORMS = (
    _of_driver,
    _of_attribute,
    _of_flag,
    _of_list,
    _of_presence,
    _of_capacity,
    _of_version,
)


def _key(kind: Kind, found: re.Match[str]) -> str:
    domain, name = found["domain"], found["name"]
    return name if domain == kind.driver else f"{domain}/{name}"


def _attribute(kind: Kind, found: re.Match[str]) -> Any:
    """Its value; a version is none that could be compared with a literal."""
    value = kind.attributes.get(_key(kind, found), {})
    return next((v for k, v in value.items() if k != "version"), None)


def _literal(text: str) -> str | int | bool:
    if text[0] in "\"'":
        return text[1:-1]
    return text == "true" if text in ("true", "false") else int(text)


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()
