"""A body too large for its target waits in S3; the message carries the claim to it.

    {"$claimCheck": {"bucket": …, "key": …, "bytes": …, "sha256": …}}

`consumer.py` reads either. The name of the object holds the change's id and the body's digest, so
that the same change put twice is one object. The bucket's lifecycle removes them.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidemark.errors import SinkRefused
from tidemark.sinks.refusals import SDK_ERRORS, failure_of, raise_if_refused
from tidemark.sinks.target import Failure

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class Payload:
    """A body and the name under which it is put aside."""

    key: str
    body: bytes
    sha256: str


def payload_of(stream: str, change_id: str, body: bytes) -> Payload:
    """The body of one change, named for both."""
    digest = hashlib.sha256(body).hexdigest()
    return Payload(f"claim-checks/{stream}/{change_id}-{digest[:16]}.json", body, digest)


class ClaimCheck:
    """Puts bodies aside in one bucket; the client is made at the first."""

    def __init__(self, bucket: str, s3: Callable[[], "S3Client"]) -> None:
        self._bucket = bucket
        self._s3 = s3

    def pointer_to(self, payload: Payload) -> bytes:
        """What the message carries instead of the body."""
        pointer = {
            "bucket": self._bucket,
            "key": payload.key,
            "bytes": len(payload.body),
            "sha256": payload.sha256,
        }
        return json.dumps({"$claimCheck": pointer}, separators=(",", ":")).encode()

    def put(self, payload: Payload) -> Failure | None:
        """Store the body; it is durable when the answer is None. Raises SinkRefused.

        No failure of the bucket's is the change's: it is never `rejected`.
        """
        try:
            self._s3().put_object(
                Bucket=self._bucket,
                Key=payload.key,
                Body=payload.body,
                ContentType="application/json",
            )
        except SDK_ERRORS as error:
            return self._failure(failure_of(error))
        return None

    def _failure(self, failure: Failure) -> Failure:
        try:
            raise_if_refused(failure, "s3:PutObject", f"arn:aws:s3:::{self._bucket}/*")
        except SinkRefused as refused:
            raise SinkRefused(f"claim check: {refused}") from None
        return Failure(f"{failure.code} (claim check)")
