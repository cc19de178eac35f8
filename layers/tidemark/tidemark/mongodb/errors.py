"""What PyMongo raises, as our errors: by code and label, by text where nothing else tells.

Server messages may quote a pipeline or a document, so none is repeated (G8); the code and what it
calls for are (`error_codes`). Of a failed TLS handshake or look-up the driver's monitors drop type
and cause (`_sanitize` in `pymongo/synchronous/monitor.py`): OpenSSL's and the C library's own words
are all that is left.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from bson.errors import InvalidBSON
from pymongo.errors import (
    ConfigurationError,
    InvalidName,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from tidemark.errors import (
    EventTooLarge,
    HistoryLost,
    HostNotFound,
    OpeningTimedOut,
    SourceRefused,
    SourceUnavailable,
    TidemarkError,
    TokenRefused,
)
from tidemark.mongodb.error_codes import FACTS, KEEP_ID, NO_CODE, Fact, Fate, fact_of
from tidemark.mongodb.uri_faults import NO_ADDRESS, dns_failure, fault_of

VERIFICATION_FAILED = "CERTIFICATE_VERIFY_FAILED"
HANDSHAKE_FAILED = "SSL handshake failed"
UNVERIFIED = {  # OpenSSL's words for why a certificate is refused, and what to do
    "has expired": "it has expired: renew it on the server",
    "mismatch": "it is for another host name: connect by a name that the certificate carries",
    "": "it is not signed by an authority that is trusted here: name a PEM file of its authority "
    "in MONGODB_CA_FILE (docs/security.md)",
}
UNRESOLVED = (  # getaddrinfo's words on Linux (glibc, musl) and macOS
    "Name or service not known",
    "Temporary failure in name resolution",
    "No address associated with hostname",
    "Name does not resolve",
    "nodename nor servname provided",
)
INVALID_NAMESPACE = 73
PRUNED_ID = "resume token is missing"  # the driver's, of an event without _id
RETRYABLE_LABELS = (  # the specifications "Change Streams" and "Client Backpressure"
    "ResumableChangeStreamError",
    "RetryableError",
    "SystemOverloadedError",
)
RESUMED = (
    "the server asks to try again, which is done while the run lasts; if it keeps coming, check "
    "the cluster's state"
)


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
    if isinstance(error, OperationFailure) and not error.timeout:
        return _of_server(error, doing)
    return _of_driver(error, doing)


def _of_driver(error: PyMongoError, doing: str) -> TidemarkError:
    name, words = type(error).__name__, str(error)
    if isinstance(error, ServerSelectionTimeoutError):
        return _unselected(words, doing)
    if isinstance(error, InvalidOperation) and PRUNED_ID in words:
        return SourceRefused(f"the driver gave up {doing}: {KEEP_ID}")
    if isinstance(error, InvalidOperation):
        return ClientClosed(f"the client was closed, while {doing}")
    if isinstance(error, ConfigurationError):
        return _misconfigured(error, doing)
    if isinstance(error, InvalidName):
        return SourceRefused(f"the driver refused {doing}: {FACTS[INVALID_NAMESPACE].remedy}")
    return SourceUnavailable(f"MongoDB did not answer while {doing} ({name})")


def _misconfigured(error: ConfigurationError, doing: str) -> TidemarkError:
    if why := dns_failure(error):
        return HostNotFound(f"{why} (while {doing})")
    return SourceRefused(f"the driver refused the secret's value while {doing}: {fault_of(error)}")


def _unselected(words: str, doing: str) -> SourceUnavailable:
    if _is_unresolved(words):
        return HostNotFound(f"{NO_ADDRESS} (while {doing})")
    return SourceUnavailable(f"{_why_unselected(words)} (while {doing})")


def _is_unresolved(words: str) -> bool:
    """Whether the driver's words name an error for each server, each of DNS alone."""
    errors = words.split("error=")[1:]
    return bool(errors) and all(any(sign in each for sign in UNRESOLVED) for each in errors)


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
    fact = fact_of(code, str(error))
    if any(error.has_error_label(label) for label in RETRYABLE_LABELS):
        fact = Fact(fact.name, Fate.PASSING, fact.remedy if fact.fate is Fate.PASSING else RESUMED)
    return _MADE[fact.fate](fact, code, doing)


def _refusal(made: type[SourceRefused], fact: Fact, code: int, doing: str) -> SourceRefused:
    return made(f"MongoDB refused {doing} ({_coded(fact, code)}): {fact.remedy}", code)


def _coded(fact: Fact, code: int) -> str:
    return f"code {code}, {fact.name}" if code else fact.name


_MADE: Mapping[Fate, Callable[[Fact, int, str], TidemarkError]] = {
    Fate.PASSING: lambda fact, code, doing: SourceUnavailable(
        f"MongoDB interrupted {doing} ({_coded(fact, code)}): {fact.remedy}"
    ),
    Fate.LOST: lambda fact, code, _: HistoryLost(f"{fact.remedy} ({_coded(fact, code)})", code),
    Fate.TOO_LARGE: lambda fact, code, _: EventTooLarge(
        f"a change event is over 16 MB ({_coded(fact, code)}): {fact.remedy}"
    ),
    Fate.TOKEN: partial(_refusal, TokenRefused),
    Fate.CREDENTIALS: partial(_refusal, AuthenticationFailed),
    Fate.REFUSED: partial(_refusal, SourceRefused),
}
