"""Asks the API server whose token it is, and whether that one may read a page of ours."""

from typing import Any

from deviceplugin.kubernetes.api import Api

TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
RIGHTS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


def review(api: Api, token: str, path: str) -> bool:
    """Whether the API server knows the token and allows its owner `get` of the nonResourceURL
    `path`, as for its own /metrics. A token alone is not enough: every pod has one.

    Raises ApiError where it cannot be asked.
    """
    status = _status(api, TOKENS, "TokenReview", {"token": token})
    if status.get("authenticated") is not True:
        return False
    user = status.get("user") or {}
    subject = {
        "user": user.get("username", ""),
        "uid": user.get("uid", ""),
        "groups": user.get("groups") or [],
        "extra": user.get("extra") or {},
        "nonResourceAttributes": {"path": path, "verb": "get"},
    }
    allowed = _status(api, RIGHTS, "SubjectAccessReview", subject)
    return allowed.get("allowed") is True and allowed.get("denied") is not True


def _status(api: Api, path: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    group = path.split("/")[2]
    answer = api.request("POST", path, {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec})
    status = answer.get("status")
    return status if isinstance(status, dict) else {}
