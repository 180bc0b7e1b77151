"""What a refusal of Allocate has to be. Pure."""

from collections.abc import Iterable, Iterator

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.plugin_client import RpcError

TEXT_MAX = 300


def refusal_problems(
    name: str, what: str, answer: pluginapi.AllocateResponse | RpcError
) -> Iterator[str]:
    """What is wrong with the answer to a request that cannot be met.

    The code is not looked at: the kubelet does not either.
    """
    if not isinstance(answer, RpcError):
        yield f"{name}: {what} is accepted"
    elif not answer.detail.strip():
        yield f"{name}: {what}: no text"


def bad_texts(texts: Iterable[str]) -> Iterator[str]:
    """What the pod's status does not take as its message."""
    for text in texts:
        if len(text.splitlines()) > 1:
            yield f"{len(text.splitlines())} lines: {text[:TEXT_MAX]!r}"
        if len(text) > TEXT_MAX:
            yield f"{len(text)} characters: {text[:TEXT_MAX]!r}"
