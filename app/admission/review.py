"""Kubernetes AdmissionReview v1: a review as a request of ours, and our answer as a review.

The types follow `k8s.io/api/admission/v1` (kubernetes.io, "Dynamic Admission Control"). The run is declared in two
annotations of the object, as JSON: `qethics-run`, the fields of a request's `run` with the `run_id`, and, where it is
known, `qethics-routing`.
"""

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from app.core.admission import AdmissionRequest, AdmissionResponse
from app.core.decode import too_deep
from app.unreadable import UNREADABLE

RUN_ANNOTATION: Final = "qethics-run"
ROUTING_ANNOTATION: Final = "qethics-routing"
API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
#: The API server cuts what is longer.
_MOST_WARNING: Final = 120
#: An object has no more of them: `TotalAnnotationSizeLimitB` of k8s.io/apimachinery.
_MOST_ANNOTATIONS: Final = 256 * 1024
_UNPROCESSABLE: Final = 422
_FORBIDDEN: Final = 403


class ReviewError(Exception):
    """What was sent is no AdmissionReview v1; the text says why."""


class UserInfo(Struct, frozen=True):
    """Who changes the object."""

    username: str = ""


class Request(Struct, frozen=True, rename="camel"):
    """The part of a review's request that is read here."""

    uid: str
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    user_info: UserInfo = UserInfo()
    object: dict[str, Any] | None = None
    dry_run: bool | None = None


class _Review(Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: Any = None


class Status(Struct, frozen=True, omit_defaults=True):
    """Why an object is not admitted."""

    code: int
    message: str
    reason: str = ""


class Response(Struct, frozen=True, rename="camel"):
    """The answer to a review."""

    uid: str
    allowed: bool
    status: Status | UnsetType = UNSET
    warnings: tuple[str, ...] | UnsetType = UNSET
    audit_annotations: dict[str, str] | UnsetType = UNSET


class Review(Struct, frozen=True, rename="camel"):
    """A review with its answer."""

    response: Response
    api_version: str = API_VERSION
    kind: str = KIND


def read(body: bytes) -> Request:
    """The request of a review.

    Raises
    ------
    ReviewError
        If it is none of version v1.
    """
    try:
        review = msgspec.json.decode(body, type=_Review)
        if review.kind != KIND:
            raise ReviewError(f"kind {review.kind!r} is not {KIND}")
        if review.api_version != API_VERSION:
            raise ReviewError(f"apiVersion {review.api_version!r} is not known; send {API_VERSION}")
        return msgspec.convert(review.request, Request)
    except UNREADABLE as error:
        raise ReviewError(f"no AdmissionReview: {error}") from error


def asked(request: Request) -> AdmissionRequest | Response:
    """The question that a review asks; the answer at once, where there is nothing to be asked or it cannot be read."""
    if request.operation not in {"CREATE", "UPDATE"} or request.object is None:
        return Response(request.uid, allowed=True)  # what ends or is looked at runs nothing
    try:
        annotations = msgspec.convert(request.object, _Object).metadata.annotations
        declared, routing = annotations.get(RUN_ANNOTATION, ""), annotations.get(ROUTING_ANNOTATION)
        if len(declared) + len(routing or "") > _MOST_ANNOTATIONS:
            raise msgspec.ValidationError(f"more than {_MOST_ANNOTATIONS} characters")
        if too_deep(declared.encode()) or too_deep((routing or "").encode()):
            raise msgspec.ValidationError("nested too deeply")
        run = msgspec.json.decode(declared, type=dict[str, Any])
        question = {
            "request_id": request.uid,
            "run_id": run.pop("run_id", None),
            "run": run,
            "routing": msgspec.json.decode(routing) if routing is not None else None,
            "requested_by": request.user_info.username[:128] or None,
            "dry_run": bool(request.dry_run),
        }
        return msgspec.convert(question, AdmissionRequest)
    except UNREADABLE as error:
        message = f"the annotation {RUN_ANNOTATION} (or {ROUTING_ANNOTATION}) declares no run: {error}"
        return Response(request.uid, allowed=False, status=Status(_UNPROCESSABLE, message, "Invalid"))


def answered(request: Request, answer: AdmissionResponse) -> Response:
    """Our answer as a review's: falling back to the classical path is another object, so this one is not admitted."""
    allowed = answer.answer == "allow"
    broken = [f"{reason.rule}: {reason.reason}" for reason in answer.reasons if reason.mode == "enforce"]
    orders = [f"{order.directive}: {order.reason}" for order in answer.directives]
    instead = ["the classical path is allowed"] if answer.answer == "fallback_classical" else []
    told = [f"{each.rule} ({each.mode}): {each.reason}" for each in answer.reasons if each.mode in {"warn", "exempt"}]
    told += [f"{name} gave no answer and was gone on without" for name in answer.failed_open]
    return Response(
        request.uid,
        allowed=allowed,
        status=UNSET if allowed else Status(_FORBIDDEN, "; ".join([*broken, *orders, *instead]), "Forbidden"),
        warnings=tuple(text[:_MOST_WARNING] for text in told) if told else UNSET,
        audit_annotations={
            "answer": answer.answer,
            "decision-id": answer.decision_id,
            "policy-revision": answer.policy_revision,
        },
    )


class _Metadata(Struct, frozen=True):
    annotations: dict[str, str] = {}


class _Object(Struct, frozen=True):
    metadata: _Metadata = _Metadata()
