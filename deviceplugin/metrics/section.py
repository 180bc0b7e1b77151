"""The configuration section `metrics`: what the endpoint shows, and to whom; pure."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from deviceplugin.schema import Section, section_of


class MetricsSection(Section, frozen=True):
    """`pods`: whether metrics name pods; unset, they do where only known readers get them.

    `certificate_file` and `key_file` are PEM files of TLS, `token_file` has one bearer token on
    each line, with `token_review` the API server is asked about the token and whether its owner
    may read the page. All are paths as the daemon sees them.
    """

    pods: bool | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    token_file: str | None = None
    token_review: bool = False

    def __post_init__(self) -> None:
        """Absolute paths, both halves of TLS, and no token without TLS."""
        for key in ("certificate_file", "key_file", "token_file"):
            path = getattr(self, key)
            if path is not None and (not path.startswith("/") or ".." in path.split("/")):
                raise ValueError(f"{key}: an absolute path without `..`")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file are set together or not at all")
        if self.authenticates and not self.certificate_file:
            raise ValueError(
                "token_file and token_review need certificate_file and key_file: without TLS"
                " everybody on the way can read a token"
            )

    @property
    def authenticates(self) -> bool:
        """Whether a reader has to show a token."""
        return self.token_file is not None or self.token_review


def metrics_section(sections: Mapping[str, object]) -> MetricsSection:
    """The section, with its defaults where the configuration has none."""
    return section_of(sections, "metrics", MetricsSection)


def shows_pods(sections: Mapping[str, object]) -> bool:
    """Whether series may name pods and namespaces."""
    section = metrics_section(sections)
    return section.authenticates if section.pods is None else section.pods


def with_pods(sections: Mapping[str, object], *, exposed: bool) -> Mapping[str, object]:
    """The sections with `pods` true where pods are `exposed` by a flag, which overrides a file."""
    if not exposed:
        return sections
    return {**sections, "metrics": replace(metrics_section(sections), pods=True)}


SECTIONS: Mapping[str, Any] = {"metrics": MetricsSection}
