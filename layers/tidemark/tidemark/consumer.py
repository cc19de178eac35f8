"""For those who receive: the body of a message, from wherever it is.

Needs nothing but a boto3 client: a consumer takes the layer, or copies this file.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CLAIM = "$claimCheck"
FIELDS = {"bucket", "key", "bytes", "sha256"}


class ClaimBroken(Exception):
    """What the claim points at is not what was put there."""


def claim_in(body: str | bytes | Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The pointer that a body consists of, None where the body is a change itself.

    Beside the pointer there may be `tidemark`, the attributes where the service has none.
    """
    document = body if isinstance(body, Mapping) else json.loads(body)
    claim = document.get(CLAIM) if isinstance(document, Mapping) else None
    if not isinstance(claim, Mapping) or document.keys() - {CLAIM, "tidemark"}:
        return None
    return claim if claim.keys() == FIELDS else None


def read_body(body: str | bytes | Mapping[str, Any], s3: Any) -> bytes:
    """The JSON that was sent, whether it is in the message or in S3.

    `body`: as received, or parsed already, as EventBridge gives a detail; of a CloudEvent its data.
    Raises ClaimBroken where size or digest differ, and S3's own errors. Needs `s3:GetObject`.
    """
    claim = claim_in(body)
    if claim is None:
        return _as_json(body)
    found: bytes = s3.get_object(Bucket=claim["bucket"], Key=claim["key"])["Body"].read()
    if len(found) != claim["bytes"]:
        raise ClaimBroken(f"{claim['key']}: {len(found)} bytes, not {claim['bytes']}")
    if hashlib.sha256(found).hexdigest() != claim["sha256"]:
        raise ClaimBroken(f"{claim['key']}: the digest is not the claim's")
    return found


def _as_json(body: str | bytes | Mapping[str, Any]) -> bytes:
    text = json.dumps(body) if isinstance(body, Mapping) else body
    return text.encode() if isinstance(text, str) else text
