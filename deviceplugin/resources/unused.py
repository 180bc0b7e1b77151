"""Rules that come to nothing on this node: nobody who wrote one expects that; pure."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from deviceplugin.model import Inventory
from deviceplugin.resources.rules import rules_that_decide, rules_that_fit
from deviceplugin.resources.section import Rule


class UnusedRule(Struct, frozen=True, kw_only=True):
    """A rule by its place in the file, why it does nothing, and whether that is `expected`: a
    fleet has one file, and this node has no device of the vendor that the rule is about."""

    label: str
    reason: str
    expected: bool

    def __str__(self) -> str:
        return f"{self.label} {self.reason}"


def unused_rules(inventory: Inventory, rules: Sequence[Rule]) -> tuple[UnusedRule, ...]:
    """The rules that decide about no device, in their order.

    Several rules may be made from one entry of a file: it is unused if all of them are.
    """
    if not rules:
        return ()
    deciding, fitting = rules_that_decide(inventory, rules), rules_that_fit(inventory, rules)
    used = {label for number in deciding for label in _labels(rules[number], number)}
    found: dict[str, UnusedRule] = {}
    for number, rule in enumerate(rules):
        for label in _labels(rule, number):
            if label in used or (label in found and number not in fitting):
                continue
            reason = "fits no device of this node"
            if number in fitting:
                reason = "does nothing: earlier rules decide about each device that it fits"
            expected = number not in fitting and not _has_vendor(rule, inventory)
            found[label] = UnusedRule(label=label, reason=reason, expected=expected)
    return tuple(found.values())


def _labels(rule: Rule, number: int) -> Sequence[str]:
    return rule.label.split(", ") if rule.label else (f"rules[{number}]",)


def _has_vendor(rule: Rule, inventory: Inventory) -> bool:
    wanted = rule.match.vendor
    if wanted is None:
        return True
    globs = wanted if isinstance(wanted, tuple) else (wanted,)
    vendors = {device.vendor for device in inventory.devices.values()}
    return any(fnmatchcase(vendor, glob) for vendor in vendors for glob in globs)


def unused_document(inventory: Inventory, rules: Sequence[Rule]) -> list[dict[str, str]]:
    """The unused rules as plain data, for `discover`."""
    return [{"rule": u.label, "reason": u.reason} for u in unused_rules(inventory, rules)]
