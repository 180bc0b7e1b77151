"""CEL selectors of claims and DeviceClasses, evaluated as the scheduler does; pure.

The language is the one of the package cel-expr-python, which is the extra `cel`; what Kubernetes
adds for quantities, versions and devices stands here (apiserver/pkg/cel/library, quantity.go and
semverlib.go; dynamic-resource-allocation/cel/compile.go).
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.scheduler.published import Kind
from deviceplugin.scheduler.quantities import parse_quantity
from deviceplugin.scheduler.selectors import Judge

Document = dict[str, Any]
MAX_EXPRESSION = 10 << 10
NEEDED = "`pip install 'deviceplugin[cel]'`: CEL expressions need the package cel-expr-python"
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+][0-9A-Za-z.+-]+)?")
_TEXT = re.compile(r"'([^']*)'|\"([^\"]*)\"")
# A CEL value of ours is a map with one key, since the language has no such types of its own.
Value = Mapping[str, str]


class CelError(DevicePluginError):
    """An expression that ends with an error on a device: nothing of the node is allocated then."""


class Expression:
    """A compiled expression."""

    def __init__(self, text: str) -> None:
        """Raises ConfigError, also without the package."""
        if len(text) > MAX_EXPRESSION:
            raise ConfigError("EXPRESSION", text[:40], f"at most {MAX_EXPRESSION} bytes of CEL")
        environment = _environment()
        try:
            self._compiled = environment.compile(text)
        except RuntimeError as error:
            told = str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
            raise ConfigError("EXPRESSION", text, f"CEL that can be read; {told}") from error
        self._domains = {first or second for first, second in _TEXT.findall(text)}

    def matches(self, driver: str, device: Document) -> bool:
        """Whether it selects a device of `dra slices`; raises CelError."""
        found = self._compiled.eval(data={"device": celled(driver, device, self._domains)})
        if str(found.type()) == "ERROR":
            raise CelError(str(found.value()))
        if not isinstance(found.value(), bool):
            raise CelError(f"it gives {found.type()} {found.plain_value()}, not true or false")
        return bool(found.value())


def judge_of(text: str) -> Judge | None:
    """What the scheduler's extender asks of a selector that is no comparison; None for one that is
    no CEL, and without the package. Nothing of a device that ends it with an error is allocated."""
    try:
        expression = Expression(text)
    except ConfigError:
        return None

    def judged(kind: Kind) -> bool:
        known = {"attributes": kind.attributes, "capacity": kind.capacity, "several": kind.several}
        try:
            return expression.matches(kind.driver, known)
        except (CelError, ValueError):
            return False

    return judged


def celled(driver: str, device: Document, domains: set[str]) -> Document:
    """The variable `device`; of a domain that it does not have the attributes are empty, as the
    scheduler has it for every domain, here for those that the expression names."""
    attributes: dict[str, Document] = {domain: {} for domain in domains}
    capacity: dict[str, Document] = {domain: {} for domain in domains}
    for key, value in device["attributes"].items():
        domain, name = _named(driver, key)
        ((kind, plain),) = value.items()
        attributes.setdefault(domain, {})[name] = semver(plain) if kind == "version" else plain
    for key, text in device["capacity"].items():
        domain, name = _named(driver, key)
        capacity.setdefault(domain, {})[name] = quantity(text)
    return {
        "driver": driver,
        "attributes": attributes,
        "capacity": capacity,
        "allowMultipleAllocations": device["several"],
    }


def _named(driver: str, key: str) -> tuple[str, str]:
    domain, _, name = key.rpartition("/")
    return domain or driver, name


def quantity(text: str) -> Value:
    """Equal quantities are equal values."""
    return _quantity(parse_quantity(text))


def _quantity(number: Decimal) -> Value:
    return {"quantity": format(number.normalize(), "f")}


def semver(text: str) -> Value:
    """Raises ValueError for what is none."""
    if not _SEMVER.fullmatch(text):
        raise ValueError(f"{text[:64]!r} is not a version of three numbers")
    return {"semver": text}


def compared(one: Value, other: Value) -> int:
    """-1, 0 or 1; raises ValueError for values of two kinds."""
    if one.keys() != other.keys():
        raise ValueError("a quantity and a version cannot be compared")
    first, second = _order(one), _order(other)
    return (first > second) - (first < second)


def _order(value: Value) -> tuple[Any, ...]:  # Any: numbers and texts of a version in turn
    if "quantity" in value:
        return (Decimal(value["quantity"]),)
    core, _, _ = value["semver"].partition("+")
    numbers, _, before = core.partition("-")
    # A version with a suffix comes before the one without, parts by parts, numbers first.
    parts = tuple((not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in before.split("."))
    return (*map(int, numbers.split(".")), not before, parts)


def _is(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def judged(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, ArithmeticError):
            return False
        return True

    return judged


def _part(number: int) -> Callable[[Value], int]:
    return lambda value: int(_order(value)[number])


@lru_cache
def _environment() -> Any:  # Any: the package gives no types to rely on
    """The language with the functions that Kubernetes adds; raises ConfigError."""
    try:
        from cel_expr_python import cel  # noqa: PLC0415  # an extra
        from cel_expr_python.ext import (  # noqa: PLC0415
            ext_bindings,
            ext_optional,
            ext_strings,
        )
    except ImportError as error:
        raise ConfigError("EXPRESSION", "", NEEDED) from error
    extensions = [
        ext_optional.ExtOptional(),
        ext_bindings.ExtBindings(),
        ext_strings.ExtStrings(),
    ]
    return cel.NewEnv(
        variables={"device": cel.Type.DYN}, functions=_functions(cel), extensions=extensions
    )


def _functions(cel: Any) -> list[Any]:
    text, whole, truth = cel.Type.STRING, cel.Type.INT, cel.Type.BOOL
    value = cel.Type.Map(text, text)

    def one(name: str, gives: Any, takes: list[Any], does: Callable[..., Any]) -> Any:
        member = takes[0] is value
        overload = cel.Overload(f"{name}_dra", gives, takes, member, does)
        return cel.FunctionDecl(name, [overload])

    return [
        one("quantity", value, [text], quantity),
        one("semver", value, [text], semver),
        one("isQuantity", truth, [text], _is(quantity)),
        one("isSemver", truth, [text], _is(semver)),
        one("compareTo", whole, [value, value], compared),
        one("isGreaterThan", truth, [value, value], lambda a, b: compared(a, b) > 0),
        one("isLessThan", truth, [value, value], lambda a, b: compared(a, b) < 0),
        one("add", value, [value, value], lambda a, b: _sum(a, b, 1)),
        one("sub", value, [value, value], lambda a, b: _sum(a, b, -1)),
        one("sign", whole, [value], lambda a: compared(a, quantity("0"))),
        one("isInteger", truth, [value], lambda a: Decimal(a["quantity"]) % 1 == 0),
        one("asInteger", whole, [value], lambda a: int(Decimal(a["quantity"]))),
        one("asApproximateFloat", cel.Type.DOUBLE, [value], lambda a: float(a["quantity"])),
        one("major", whole, [value], _part(0)),
        one("minor", whole, [value], _part(1)),
        one("patch", whole, [value], _part(2)),
    ]


def _sum(one: Value, other: Value, sign: int) -> Value:
    return _quantity(Decimal(one["quantity"]) + sign * Decimal(other["quantity"]))
