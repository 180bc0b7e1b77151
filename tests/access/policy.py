"""Policies evaluated without an API server, by Google's own CEL; the authorizer is a table.

What a real API server says of them is in tests/e2e/test_access.py.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings

Document = Mapping[str, Any]
USER, ACCOUNT = "user", "account"
_NAME = r"(variables\.asked\[\d+\])"
_POD_CHECK = (
    rf"\.group\({_NAME}\.split\('/'\)\[0\]\)\.resource\({_NAME}\.split\('/'\)\[1\]\)"
    r"\.namespace\(request\.namespace\)\.check\('use'\)\.allowed\(\)"
)
_CLASS_CHECK = (
    r"authorizer\.group\('resource\.k8s\.io'\)\.resource\('deviceclasses'\)"
    rf"\.namespace\(request\.namespace\)\.name\({_NAME}\)\.check\('use'\)\.allowed\(\)"
)
_REPLACED = (
    (
        rf"authorizer\.serviceAccount\(request\.namespace, variables\.account\){_POD_CHECK}",
        rf"may('{ACCOUNT}', \1)",
    ),
    (rf"authorizer{_POD_CHECK}", rf"may('{USER}', \1)"),
    (_CLASS_CHECK, rf"may('{USER}', \1)"),
    # Kubernetes' own function of lists, where the package has that of texts.
    (r"variables\.names\.indexOf\(", "place(variables.names, "),
)


class Judge:
    """Judges requests by one policy; `rights` are whose and of what."""

    def __init__(self, policy: Document, rights: Collection[tuple[str, str]] = ()) -> None:
        self._spec, self._rights = policy["spec"], rights
        dyn, text, whole, truth = cel.Type.DYN, cel.Type.STRING, cel.Type.INT, cel.Type.BOOL
        place = cel.Overload("place_", whole, [cel.Type.LIST, text], is_member=False, impl=_index)
        self._environment = cel.NewEnv(
            variables={"object": dyn, "request": dyn, "variables": dyn},
            functions=[
                cel.FunctionDecl(
                    "may",
                    [cel.Overload("may_", truth, [text, text], is_member=False, impl=self._may)],
                ),
                cel.FunctionDecl(
                    "place",
                    [place],
                ),
            ],
            extensions=[ext_optional.ExtOptional(), ext_strings.ExtStrings()],
        )

    def refusal(self, document: Document, request: Document) -> str:
        """What is said; empty where the request is taken, or the policy is not about it."""
        data: dict[str, Any] = {"object": document, "request": request, "variables": {}}
        if not all(self._is(one["expression"], data) for one in self._spec["matchConditions"]):
            return ""
        for one in self._spec["variables"]:
            data["variables"][one["name"]] = self._value(one["expression"], data)
        for rule in self._spec["validations"]:
            if not self._is(rule["expression"], data):
                told = rule.get("messageExpression")
                return str(self._value(told, data)) if told else str(rule["message"])
        return ""

    def _is(self, text: str, data: Document) -> bool:
        found = self._value(text, data)
        assert isinstance(found, bool), f"{text}: {found}"
        return found

    def _value(self, text: str, data: Document) -> Any:
        for pattern, shorter in _REPLACED:
            text = re.sub(pattern, shorter, text)
        found = self._environment.compile(text).eval(data=data)
        assert str(found.type()) != "ERROR", f"{text}: {found.value()}"
        return found.plain_value()

    def _may(self, who: str, name: str) -> bool:
        return (who, name) in self._rights


def _index(values: list[Any], value: Any) -> int:
    return values.index(value) if value in values else -1
