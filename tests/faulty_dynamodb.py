"""Faults of DynamoDB between the SDK and the server, through botocore's own hooks.

A lost answer is a real one: the request reaches the server, its answer is dropped, and the SDK
repeats it as it sees fit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.client import BaseClient


class Fault(StrEnum):
    """What may happen to a request."""

    ANSWER_LOST = "answer lost"  # applied
    SILENCE = "silence"  # not applied, and no answer in time
    THROTTLED = "ProvisionedThroughputExceededException"
    ERROR = "InternalServerError"
    DENIED = "AccessDeniedException"


STATUS = {Fault.ERROR: 500}


@dataclass
class Requests:
    """Counts a client's requests and lets faults happen to some of them.

    `faults` is by the number of the request, the first is 0; each attempt of the SDK counts.
    """

    faults: dict[int, Fault] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)

    def watch(self, client: BaseClient) -> Requests:
        """Stand between `client` and its server."""
        hook: Any = self._before_send  # the stubs know no answer of a hook
        client.meta.events.register("before-send.dynamodb", hook)
        return self

    def next(self, *faults: Fault) -> None:
        """Let `faults` happen to the coming requests."""
        start = len(self.operations)
        self.faults |= {start + place: fault for place, fault in enumerate(faults)}

    def _before_send(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        fault = self.faults.get(len(self.operations))
        target = request.headers["X-Amz-Target"]
        name = target.decode() if isinstance(target, bytes) else str(target)
        self.operations.append(name.rpartition(".")[2])
        if fault is None:
            return None
        if fault is Fault.ANSWER_LOST:
            URLLib3Session().send(request)
        if fault in (Fault.ANSWER_LOST, Fault.SILENCE):
            raise ReadTimeoutError(endpoint_url=request.url)
        return _refusal(request, fault)


def _refusal(request: AWSPreparedRequest, fault: Fault) -> AWSResponse:
    body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{fault}", "message": "x"})
    headers: Any = {"Content-Type": "application/x-amz-json-1.0"}
    return AWSResponse(request.url, STATUS.get(fault, 400), headers, _Body(body.encode()))


class _Body:
    """What botocore expects of urllib3's raw response."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> list[bytes]:
        return [self._content]
