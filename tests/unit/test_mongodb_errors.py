"""What the driver raises, as our errors: by code and label, never in the server's words (G8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bson.errors import InvalidBSON
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    CursorNotFound,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from tidemark.errors import (
    EventTooLarge,
    HistoryLost,
    OpeningTimedOut,
    SourceRefused,
    SourceUnavailable,
    TidemarkError,
)
from tidemark.mongodb.errors import AuthenticationFailed, ClientClosed, translated, translation

if TYPE_CHECKING:
    from pymongo.errors import PyMongoError

CANARY = "canary: {'card': '4111'}"
UNVERIFIED = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"


def failure(code: int | None, *labels: str) -> OperationFailure:
    details: dict[str, Any] = {"errmsg": CANARY, "errorLabels": list(labels)}
    return OperationFailure(CANARY, code, details)


def translate(error: PyMongoError, *, opening: bool = True) -> TidemarkError:
    ours = translation(error, "opening 'orders'", opening=opening)
    assert "canary" not in str(ours)
    assert "opening 'orders'" in str(ours) or isinstance(ours, (HistoryLost, EventTooLarge))
    return ours


@pytest.mark.parametrize("code", [136, 260, 286])
@pytest.mark.parametrize("labels", [(), ("NonResumableChangeStreamError",)])
def test_a_position_that_the_server_lacks_is_lost_history(code: int, labels: tuple[str]) -> None:
    """G7: the policy decides, so it must be known by its code, labelled or not."""
    ours = translate(failure(code, *labels))
    assert isinstance(ours, HistoryLost)
    assert ours.code == code


@pytest.mark.parametrize("code", [10334, 17280])
def test_an_event_over_the_limit_is_told_with_what_splits_it(code: int) -> None:
    ours = translate(failure(code))
    assert isinstance(ours, EventTooLarge)
    assert "split_large_events = true" in str(ours)


@pytest.mark.parametrize("code", [18, 8000])
def test_refused_credentials_may_have_been_rotated(code: int) -> None:
    """A self-hosted server's code, and Atlas's."""
    assert isinstance(translate(failure(code)), AuthenticationFailed)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (9, "check pipeline, event options"),
        (13, "lacks the privileges find and changeStream"),
        (18, "check the user, the password and authSource"),
        (47, "enable changeStreamPreAndPostImages"),
        (73, "not valid for a change stream"),
        (280, 'on_definition_change = "restart"'),
        (8000, "check the user and its database access"),
        (40324, "does not know a stage of the pipeline"),
        (40415, "does not know an option"),
        (40573, "start mongod with --replSet"),
        (31095, "does not know an option"),
        (4242, "see the server's documentation of this code"),
    ],
)
def test_a_refusal_names_its_code_and_the_remedy(code: int, remedy: str) -> None:
    ours = translate(failure(code), opening=False)
    assert isinstance(ours, SourceRefused)
    assert ours.code == code
    assert f"(code {code})" in str(ours)
    assert remedy in str(ours)


def test_a_refusal_by_the_driver_itself_has_no_code_and_still_a_remedy() -> None:
    """As when the function's role has no credentials to sign with."""
    ours = translate(failure(None))
    assert isinstance(ours, SourceRefused)
    assert "check authMechanism" in str(ours)
    assert "the function's role" in str(ours)


def test_what_the_server_calls_resumable_is_tried_again_whatever_its_code() -> None:
    ours = translate(failure(280, "ResumableChangeStreamError"))
    assert type(ours) is SourceUnavailable


@pytest.mark.parametrize(
    "error", [NetworkTimeout(CANARY), ExecutionTimeout(CANARY, 50), WaitQueueTimeoutError(CANARY)]
)
def test_a_timeout_is_the_budgets_end_while_opening_and_a_late_server_while_reading(
    error: PyMongoError,
) -> None:
    """G5: a run that cannot open ends in its own error."""
    assert isinstance(translate(error), OpeningTimedOut)
    assert type(translate(error, opening=False)) is SourceUnavailable


@pytest.mark.parametrize("error", [AutoReconnect(CANARY), CursorNotFound(CANARY, 43)])
def test_a_lost_connection_and_a_lost_cursor_are_tried_again(error: PyMongoError) -> None:
    assert type(translate(error)) is SourceUnavailable


def test_a_closed_client_is_made_again() -> None:
    assert isinstance(translate(InvalidOperation(CANARY)), ClientClosed)


def test_a_refused_connection_string_is_told() -> None:
    ours = translate(ConfigurationError(CANARY))
    assert isinstance(ours, SourceRefused)
    assert "the connection string was refused" in str(ours)


@pytest.mark.parametrize(
    ("drivers_words", "ours_say"),
    [
        ("[Errno 111] Connection refused", "check the host, the network path"),
        (
            f"{UNVERIFIED}: self-signed certificate in certificate chain",
            "name a PEM file of its authority in MONGODB_CA_FILE",
        ),
        (
            f"{UNVERIFIED}: certificate has expired",
            "it has expired",
        ),
        (
            f"{UNVERIFIED}: Hostname mismatch, certificate is not valid for 'canary'",
            "it is for another host name",
        ),
        ("SSL handshake failed: canary: EOF occurred", "check that it speaks TLS"),
    ],
)
def test_an_unreachable_server_is_told_by_what_its_tls_says(
    drivers_words: str, ours_say: str
) -> None:
    """Not merely that no server could be selected."""
    ours = translate(ServerSelectionTimeoutError(f"canary:27017: {drivers_words}"))
    assert type(ours) is SourceUnavailable
    assert ours_say in str(ours)


def test_what_cannot_be_decoded_is_the_readers_to_isolate() -> None:
    with pytest.raises(InvalidBSON), translated("reading"):
        raise InvalidBSON("canary")


def test_the_drivers_error_is_kept_as_the_cause() -> None:
    """The log names its type and its place, and no more."""
    with pytest.raises(SourceUnavailable) as raised, translated("reading"):
        raise AutoReconnect(CANARY)
    assert isinstance(raised.value.__cause__, AutoReconnect)
