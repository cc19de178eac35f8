"""What PyMongo raises, as our errors: by code and label; by text only where TLS fails.

Server messages may quote a pipeline or a document, so none is repeated (G8); the code and what it
calls for are. Of a failed TLS handshake the driver's monitors drop type and cause (`_sanitize` in
`pymongo/synchronous/monitor.py`): OpenSSL's own symbols in the text are all that is left. Source:
`src/mongo/base/error_codes.yml`; the driver specification "Change Streams", section "Resumable
Error".
"""

from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import InvalidBSON
from pymongo.errors import (
    ConfigurationError,
    CursorNotFound,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from tidemark.errors import (
    EventTooLarge,
    HistoryLost,
    OpeningTimedOut,
    SourceRefused,
    SourceUnavailable,
    TidemarkError,
)
from tidemark.mongodb.capabilities import NEEDS_REPLICA_SET, STANDALONE

NO_CODE = 0  # the driver itself ended the exchange of credentials
AUTHENTICATION_FAILED = {
    18,  # AuthenticationFailed
    8000,  # AtlasError, which is how Atlas says the same
}
MAX_TIME_EXPIRED = 50
HISTORY_LOST = {
    136,  # CappedPositionLost: Amazon DocumentDB's lost history
    260,  # InvalidResumeToken
    286,  # ChangeStreamHistoryLost
}
TOO_LARGE = {
    10334,  # BSONObjectTooLarge
    17280,  # KeyTooLong, as servers before 6.0.9 answer for such an event
}
VERIFICATION_FAILED = "CERTIFICATE_VERIFY_FAILED"
HANDSHAKE_FAILED = "SSL handshake failed"
UNVERIFIED = {  # OpenSSL's words for why a certificate is refused, and what to do
    "has expired": "it has expired: renew it on the server",
    "mismatch": "it is for another host name: connect by a name that the certificate carries",
    "": "it is not signed by an authority that is trusted here: name a PEM file of its authority "
    "in MONGODB_CA_FILE (docs/security.md)",
}
REMEDIES = {
    NO_CODE: "the driver could not complete the authentication: check authMechanism and, for "
    "MONGODB-AWS, the function's role",
    8000: "Atlas refused the credentials: check the user and its database access",
    9: "the server could not parse the stream's options or its resume token: check pipeline, "
    "event options, and whether the position belongs to this deployment",
    13: "the user lacks the privileges find and changeStream on what the stream watches",
    18: "authentication failed: check the user, the password and authSource in the secret",
    47: "a required document image is missing: enable changeStreamPreAndPostImages on the "
    'collection, or choose "whenAvailable"',
    73: "the namespace is not valid for a change stream",
    280: "the stream cannot continue at its position: restore its definition, or start it afresh, "
    'with a gap record, by on_definition_change = "restart" until it runs',
    40324: "the server does not know a stage of the pipeline: check its version",
    40415: "the server does not know an option of the stream: check its version",
    STANDALONE: NEEDS_REPLICA_SET,
    31095: "the server does not know an option of the stream: check its version",
}


class AuthenticationFailed(SourceRefused):
    """The credentials were refused: they may have been rotated."""


class ClientClosed(SourceUnavailable):
    """The container's client was closed behind our back."""


@contextmanager
def translated(doing: str, *, opening: bool = False) -> Iterator[None]:
    """Raise our errors for PyMongo's; `doing` completes the sentence "while …".

    InvalidBSON passes: the reader isolates the document.
    """
    try:
        yield
    except InvalidBSON:
        raise
    except PyMongoError as error:
        raise translation(error, doing, opening=opening) from error


def translation(error: PyMongoError, doing: str, *, opening: bool) -> TidemarkError:
    """Our error for PyMongo's."""
    if error.timeout and opening and not isinstance(error, ServerSelectionTimeoutError):
        return OpeningTimedOut(f"the budget ended while {doing}")
    if isinstance(error, OperationFailure) and not (
        error.timeout or isinstance(error, CursorNotFound)
    ):
        return _of_server(error, doing)
    return _of_driver(error, doing)


def _of_driver(error: PyMongoError, doing: str) -> TidemarkError:
    name = type(error).__name__
    if isinstance(error, ServerSelectionTimeoutError):
        return SourceUnavailable(f"{_why_unselected(str(error))} (while {doing})")
    if isinstance(error, InvalidOperation):
        return ClientClosed(f"the client was closed, while {doing}")
    if isinstance(error, ConfigurationError):
        return SourceRefused(f"the connection string was refused while {doing} ({name})")
    return SourceUnavailable(f"MongoDB did not answer while {doing} ({name})")


def _why_unselected(words: str) -> str:
    """Our own sentence for the driver's words about the servers it tried."""
    if VERIFICATION_FAILED in words:
        remedy = next(remedy for sign, remedy in UNVERIFIED.items() if sign in words)
        return f"the MongoDB server's TLS certificate could not be verified: {remedy}"
    if HANDSHAKE_FAILED in words:
        return (
            "the TLS handshake with the MongoDB server failed: check that it speaks TLS (or waive "
            "TLS by MONGODB_TLS=off) and whether it asks for a client certificate"
        )
    return (
        "no MongoDB server could be selected: check the host, the network path (security group, "
        "peering, IP access list), the cluster's state, and that the server is met with what it "
        "asks for: TLS (MONGODB_TLS), a client certificate"
    )


def _of_server(error: OperationFailure, doing: str) -> TidemarkError:
    code = error.code or NO_CODE
    if error.has_error_label("ResumableChangeStreamError"):
        return SourceUnavailable(f"the server asks to resume, while {doing} (code {code})")
    if code in HISTORY_LOST:
        return HistoryLost(f"the server no longer has the position (code {code})", code)
    if code in TOO_LARGE:
        return EventTooLarge(
            f"a change event is over 16 MB (code {code}): set split_large_events = true "
            "(MongoDB 6.0.9, 7.0 or later), or make the pipeline drop its large fields"
        )
    refused = AuthenticationFailed if code in AUTHENTICATION_FAILED else SourceRefused
    remedy = REMEDIES.get(code, "see the server's documentation of this code")
    return refused(f"MongoDB refused {doing} (code {code}): {remedy}", code)
