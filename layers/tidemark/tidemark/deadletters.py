"""Dead letters on SQS, and in S3 where one is over the queue's limit.

A letter is JSON and holds all that is needed to redeliver: `stream`, `changeId`, `change`
(canonical Extended JSON), `errorType`, `errorMessage`, `attempts`, `firstFailedAtMs`,
`lastFailedAtMs`, `fencingToken`. In place of `change`: `changeAt` {bucket, key, bytes} for a large
one, `rawBson` (base64) for one that cannot be decoded or encoded.
"""

import base64
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import bson
from botocore.exceptions import BotoCoreError, ClientError

from tidemark.errors import DeadLetterFailed, PoisonChange
from tidemark.model import Undecodable
from tidemark.ports import DeadLetter

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

INLINE_BYTES = 240_000  # below every limit that SQS has had, with room for the letter's own fields


class QueueDeadLetters:
    """Dead letters in a queue, large changes in a bucket; clients are made at the first letter."""

    def __init__(
        self,
        queue_url: str | None,
        bucket: str | None,
        sqs: Callable[[], "SQSClient"],
        s3: Callable[[], "S3Client"],
    ) -> None:
        self._queue_url = queue_url
        self._bucket = bucket
        self._sqs = sqs
        self._s3 = s3

    def put(self, letter: DeadLetter) -> None:
        """Store `letter`; it is durable on return. Raises DeadLetterFailed.

        The same letter may be stored twice after a crash: its `changeId` is the same.
        """
        if self._queue_url is None:
            raise DeadLetterFailed("no dead-letter queue: set TIDEMARK_DEAD_LETTER_QUEUE_URL")
        try:
            self._sqs().send_message(
                QueueUrl=self._queue_url,
                MessageBody=self._body(letter),
                MessageAttributes={
                    "stream": {"DataType": "String", "StringValue": letter.stream},
                    "changeId": {"DataType": "String", "StringValue": letter.change_id},
                },
            )
        except (ClientError, BotoCoreError) as error:
            raise DeadLetterFailed(
                f"stream {letter.stream!r}: change {letter.change_id} could not be set aside "
                f"({_code(error)}): check the queue, the bucket and the role's permissions"
            ) from error

    def _body(self, letter: DeadLetter) -> str:
        name, payload = content_of(letter)
        if len(payload) > INLINE_BYTES:
            return _envelope(letter, {"changeAt": self._put_aside(letter, payload)})
        return _envelope(letter, {name: json.loads(payload)})

    def _put_aside(self, letter: DeadLetter, payload: bytes) -> dict[str, Any]:
        if self._bucket is None:
            raise DeadLetterFailed(
                f"stream {letter.stream!r}: change {letter.change_id} has {len(payload)} bytes, "
                "over the queue's limit: set TIDEMARK_PAYLOAD_BUCKET"
            )
        key = f"dead-letters/{letter.stream}/{letter.change_id}.json"
        self._s3().put_object(
            Bucket=self._bucket, Key=key, Body=payload, ContentType="application/json"
        )
        return {"bucket": self._bucket, "key": key, "bytes": len(payload)}


def content_of(letter: DeadLetter) -> tuple[str, bytes]:
    """The name and JSON of a letter's change: `change`, or `rawBson` where that cannot be."""
    from tidemark.encoding import encode  # noqa: PLC0415 - the encoder's library is no cold start's

    if isinstance(letter.change, Undecodable):
        return "rawBson", _base64(letter.change.raw)
    try:
        return "change", encode(letter.change, "canonical")
    except PoisonChange:
        return "rawBson", _base64(bson.encode(letter.change))


def _envelope(letter: DeadLetter, content: dict[str, Any]) -> str:
    return json.dumps(
        {
            "stream": letter.stream,
            "changeId": letter.change_id,
            "errorType": letter.error_type,
            "errorMessage": letter.error_message[:1000],
            "attempts": letter.attempts,
            "firstFailedAtMs": letter.first_failed_at_ms,
            "lastFailedAtMs": letter.last_failed_at_ms,
            "fencingToken": letter.fencing_token,
            **content,
        },
        separators=(",", ":"),  # as the encoder's own: the measured change grows by nothing
    )


def _base64(raw: bytes) -> bytes:
    return json.dumps(base64.b64encode(raw).decode()).encode()


def _code(error: ClientError | BotoCoreError) -> str:
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "unknown"))
    return type(error).__name__
