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
    InvalidName,
    InvalidOperation,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
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
from tidemark.mongodb.error_codes import FACTS, Fate
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


# ----------------------------------------------------------------------------- the table of codes

MADE: dict[Fate, type[TidemarkError]] = {
    Fate.PASSING: SourceUnavailable,
    Fate.LOST: HistoryLost,
    Fate.TOKEN: TokenRefused,
    Fate.CREDENTIALS: AuthenticationFailed,
    Fate.TOO_LARGE: EventTooLarge,
    Fate.REFUSED: SourceRefused,
}
ACTIONS = (
    *("check ", "choose ", "grant ", "enable ", "restore ", "set ", "take ", "drop ", "upgrade"),
    *(
        "connect to",
        "name a ",
        "watch the",
        "start mongod",
        "raise it",
        "narrow it",
        "use $convert",
    ),
    *("switch them on", "report it", "create ", "scale it up"),
)


@pytest.mark.parametrize("code", sorted(FACTS))
@pytest.mark.parametrize("opening", [True, False])
def test_each_code_has_its_class_its_name_and_something_to_do(code: int, opening: bool) -> None:
    """What MongoDB's change-stream pages name is known, and nothing sends the reader elsewhere."""
    fact, ours = FACTS[code], translate(failure(code or None), opening=opening)
    assert type(ours) is MADE[fact.fate]
    assert fact.remedy in str(ours)
    assert code == 0 or f"code {code}, {fact.name}" in str(ours)
    assert any(action in fact.remedy for action in ACTIONS), fact.remedy
    assert "documentation" not in fact.remedy


SPECIFICATION = (  # "Change Streams", section "Resumable Error"
    *(6, 7, 43, 63, 89, 91, 133, 150, 189, 234, 262),
    *(9001, 10107, 11600, 11602, 13388, 13435, 13436),
)
KILLED_OR_WAITING = (134, 237, 11601, 216, 175, 112, 46, 24, 203, 317)


@pytest.mark.parametrize("code", [*SPECIFICATION, *KILLED_OR_WAITING])
@pytest.mark.parametrize("opening", [True, False], ids=["aggregate", "getMore"])
def test_a_passing_fault_is_one_at_the_aggregate_as_at_the_getmore(
    code: int, opening: bool
) -> None:
    """G11: the specification resumes at a getMore alone, so the driver leaves the other to us."""
    assert type(translate(failure(code), opening=opening)) is SourceUnavailable


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (9, "check pipeline, event options"),
        (13, "lacks the privileges find and changeStream"),
        (18, "check the user, the password and authSource"),
        (26, "a sharded cluster cannot watch a database that does not exist"),
        (47, "enable changeStreamPreAndPostImages"),
        (73, "a database other than admin, local and config"),
        (166, "a view or a time-series collection has no change stream"),
        (8000, "check the user and its database access"),
        (40324, "does not know a stage of the pipeline"),
        (40415, "does not know an option"),
        (40573, "start mongod with --replSet"),
    ],
)
def test_a_refusal_names_its_code_and_the_remedy(code: int, remedy: str) -> None:
    ours = translate(failure(code), opening=False)
    assert isinstance(ours, SourceRefused)
    assert ours.code == code
    assert remedy in str(ours)


@pytest.mark.parametrize("labels", [(), ("NonResumableChangeStreamError",)])
def test_a_code_that_is_not_known_is_said_to_be_unknown(labels: tuple[str, ...]) -> None:
    """G12: the run fails at an unchanged position, and the next one tries again."""
    ours = translate(failure(4242, *labels), opening=False)
    assert type(ours) is SourceRefused
    assert ours.code == 4242
    assert "code 4242, unknown" in str(ours)
    assert "not known to Tidemark; the position is unchanged" in str(ours)
    assert "MongoDB's list" in str(ours)


# --------------------------------------------------------------------- the token, or the pipeline

PRUNED = (
    "PlanExecutor error during aggregation :: caused by :: Encountered an event whose _id field, "
    "which contains the resume token, was modified by the pipeline. canary"
)
NOT_FOUND = (
    "Executor error during getMore :: caused by :: cannot resume stream; the resume token was not "
    'found. {_data: "canary"}'
)


@pytest.mark.parametrize("words", [NOT_FOUND, CANARY])
def test_a_token_that_is_not_found_can_be_given_up(words: str) -> None:
    """G7: with a gap record, by the operator's choice."""
    ours = translate(OperationFailure(words, 280, {"errmsg": words}))
    assert type(ours) is TokenRefused
    assert ours.code == 280
    assert 'on_definition_change = "restart"' in str(ours)


@pytest.mark.parametrize("code", [280, 51060])
def test_a_pipeline_that_prunes_the_token_is_no_tokens_fault(code: int) -> None:
    """G7: to give up the position would record a gap in each run, and deliver nothing."""
    ours = translate(OperationFailure(PRUNED, code, {"errmsg": PRUNED}), opening=False)
    assert type(ours) is SourceRefused
    assert "take _id out of what $project" in str(ours)
    assert "$$KEEP instead of $$DESCEND" in str(ours)
    assert "on_definition_change" not in str(ours)


def test_the_driver_says_of_a_pruned_token_that_it_is_missing() -> None:
    """Not that the client was closed. It does where a server lets such an event through."""
    words = "Cannot provide resume functionality when the resume token is missing."
    ours = translate(InvalidOperation(words), opening=False)
    assert type(ours) is SourceRefused
    assert "take _id out of what $project" in str(ours)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("To resume from a split event, the $changeStream pipeline must", "split_large_events ="),
        ("found more than one document with document key {_id: 1}", "updateLookup"),
    ],
)
def test_the_other_causes_of_280_have_a_sentence_each(words: str, remedy: str) -> None:
    ours = translate(OperationFailure(words, 280, {"errmsg": words}), opening=False)
    assert type(ours) is SourceRefused
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


def test_what_the_driver_cannot_use_is_told_by_its_cause() -> None:
    ours = translate(ConfigurationError("canary wire version 3, but needs 9"))
    assert isinstance(ours, SourceRefused)
    assert "the server's version is not one that this driver speaks to" in str(ours)


def test_a_name_that_the_driver_refuses_is_told_as_the_servers_would_be() -> None:
    assert "a database other than admin" in str(translate(InvalidName(CANARY)))


def test_a_label_of_the_server_is_enough_to_try_again() -> None:
    for label in ("ResumableChangeStreamError", "RetryableError", "SystemOverloadedError"):
        assert type(translate(failure(4242, label))) is SourceUnavailable


# --------------------------------------------------------------------------- what is not reached

UNKNOWN_NAME = "canary:27017: [Errno -2] Name or service not known"
REFUSED = "canary:27017: [Errno 111] Connection refused"


def description(*errors: str) -> str:
    """What the driver says of the servers it tried, as `Topology._error_message` does."""
    each = ", ".join(f"<ServerDescription error=AutoReconnect('{error}')>" for error in errors)
    return f"{','.join(errors)}, Timeout: 5.0s, Topology Description: <servers: [{each}]>"


def test_hosts_without_an_address_are_dns() -> None:
    ours = translate(ServerSelectionTimeoutError(description(UNKNOWN_NAME, UNKNOWN_NAME)))
    assert type(ours) is HostNotFound
    assert "MongoDB cannot be reached: DNS" in str(ours)
    assert "in a VPC, check that enableDnsSupport" in str(ours)


@pytest.mark.parametrize("errors", [(REFUSED,), (UNKNOWN_NAME, REFUSED)])
def test_one_host_that_was_found_makes_it_the_networks(errors: tuple[str, ...]) -> None:
    ours = translate(ServerSelectionTimeoutError(description(*errors)))
    assert type(ours) is SourceUnavailable
    assert "check the host, the network path" in str(ours)


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
