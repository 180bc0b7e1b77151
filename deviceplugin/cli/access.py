"""What `deviceplugin render rbac` and `render access` print."""

from collections.abc import Sequence
from typing import Any

import yaml

from deviceplugin.access.bypass import bypass_policy
from deviceplugin.access.policies import access_policies
from deviceplugin.access.roles import bindings, cluster_roles
from deviceplugin.config.config import Config
from deviceplugin.documents.access import AccessControl, Role
from deviceplugin.documents.protection import Security
from deviceplugin.errors import ConfigError


def rbac_text(config: Config) -> str:
    """The ClusterRoles of the roles that a configuration names; raises ConfigError without any."""
    roles = _roles(config)
    if not roles:
        raise _nothing()
    return _text(cluster_roles(roles))


def access_text(config: Config, *, warn: bool) -> str:
    """Roles, bindings and policies; raises ConfigError where the configuration asks for none."""
    roles, bypass = _roles(config), _security(config).bypass
    documents: list[dict[str, Any]] = []
    if roles:
        named = [name for role in roles for name in role.resources]
        documents += [*cluster_roles(roles), *bindings(roles), *access_policies(named, warn=warn)]
    if bypass is not None and bypass.enabled:
        documents += bypass_policy(bypass.allowed, warn=warn)
    if not documents:
        raise _nothing()
    return _text(documents)


def _security(config: Config) -> Security:
    security = config.sections.get("security")
    return security if isinstance(security, Security) else Security()


def _roles(config: Config) -> Sequence[Role]:
    access = _security(config).access_control
    return access.roles if isinstance(access, AccessControl) and access.enabled else ()


def _nothing() -> ConfigError:
    expected = "a list of roles, each with a name and permissions"
    return ConfigError("security.access_control.roles", None, expected)


def _text(documents: Sequence[dict[str, Any]]) -> str:
    return str(yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=100))


class _Plain(yaml.SafeDumper):
    """Without anchors, for people."""

    def ignore_aliases(self, data: Any) -> bool:  # as PyYAML has it
        return True
