"""MongoDB's error codes: what each calls for, in one table; pure.

A code that is not in the table is not known here, and is told so. Sources: the server's
`src/mongo/base/error_codes.yml` for names and numbers; the asserts of the server's
`src/mongo/db/pipeline/` and `src/mongo/db/exec/` for the codes that have no name in that file:
`resume_token.cpp`, `document_source_change_stream.cpp`,
`document_source_change_stream_check_resumability.cpp`, `pipeline.cpp`, `plan_executor_pipeline.cpp`
and their predecessors of 3.6 to 4.2; MongoDB manual, "Change Streams" and "Change Streams
Production Recommendations".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from tidemark.mongodb.capabilities import NEEDS_REPLICA_SET, STANDALONE
from tidemark.mongodb.passing_faults import PASSING

NO_CODE = 0  # the driver itself ended the exchange of credentials
ATLAS_ERROR = 8000
CHANGE_STREAM_FATAL = 280
MODIFIED_ID = 51060  # as mongos 4.2 says of a pipeline what later servers say by 280
NOT_IN_THE_TABLE = "unknown"
ERROR_CODE_LIST = "https://www.mongodb.com/docs/manual/reference/error-codes/"


class Fate(Enum):
    """What happens next."""

    PASSING = auto()  # retried inside the run while its budget lasts
    LOST = auto()  # `on_history_lost` decides
    TOKEN = auto()  # refused for the position's token
    CREDENTIALS = auto()  # tried once more with what the secret holds by now
    TOO_LARGE = auto()  # an event over the limit
    REFUSED = auto()  # every run fails until an operator acts


@dataclass(frozen=True, slots=True)
class Fact:
    """One code: its name, what happens next, and what the operator does."""

    name: str
    fate: Fate
    remedy: str


def _facts(fate: Fate, remedy: str, names: Mapping[int, str]) -> dict[int, Fact]:
    return {code: Fact(name, fate, remedy) for code, name in names.items()}


_POLICY = "choose by on_history_lost where the stream goes on (docs/operations.md)"
_RESTART = (
    'restore the stream\'s definition, or choose on_definition_change = "restart" until the stream '
    "runs, which records a gap"
)
_UNREADABLE_TOKEN = (
    "the position's resume token is of another product or of a newer version: connect to the "
    f"deployment that made it, or {_RESTART}"
)
KEEP_ID = (
    "the pipeline drops or rewrites an event's _id, which is its resume token: take _id out of "
    "what $project, $unset, $set, $addFields, $replaceRoot or $replaceWith change, and in $redact "
    "keep what is below the event by $$KEEP instead of $$DESCEND; the position is unchanged"
)
_STAGE = "the server does not know a stage of the pipeline: check its spelling and the version"
_OPTION = (
    "the server does not know an option of the stream: drop the event option that its version "
    "lacks (docs/configuration.md says since when there is which), or upgrade the server"
)
_VALUE = (
    "the server does not take a value in the stream's pipeline or event options: check the "
    "pipeline's operators and their arguments"
)
_NAMESPACE = (
    "the namespace is not one that a change stream can be opened on: name a database other than "
    "admin, local and config, and a collection that does not begin with system."
)
_VIEW = (
    "a view or a time-series collection has no change stream: watch the collection that the view "
    "reads; a time series cannot be watched"
)
_PRIVILEGES = (
    "the connection string names no user, or the user lacks the privileges find and changeStream "
    "on what the stream watches: grant read on the database, or readAnyDatabase for the deployment"
)
_CHECK_USER = "check the user, the password and authSource in the secret"
_NO_COMMAND = (
    "the server does not have what a change stream needs: check that it is a replica set or a "
    "sharded cluster of MongoDB, or Amazon DocumentDB, and its version"
)
_OWN_FAULT = (
    "the server reports a fault of its own: look for the same time in the server's log, and report "
    "it to who runs the server; each run tries again"
)
_SPLIT = (
    "set split_large_events = true (MongoDB 6.0.9, 7.0 or later), or make the pipeline drop its "
    "large fields"
)

FACTS: Mapping[int, Fact] = {
    **{
        code: Fact(name, Fate.PASSING, remedy)
        for remedy, names in PASSING.items()
        for code, name in names.items()
    },
    **_facts(
        Fate.LOST,
        f"the server no longer has the position: {_POLICY}",
        {
            136: "CappedPositionLost",  # Amazon DocumentDB's lost history
            286: "ChangeStreamHistoryLost",
            40576: "Location40576",  # the same before 4.2
        },
    ),
    260: Fact(
        "InvalidResumeToken",
        Fate.LOST,
        "the server does not resume from the position's token, which is of an invalidate or of "
        f"another scope: {_POLICY}",
    ),
    **_facts(
        Fate.TOKEN,
        f"the server does not find the position's resume token in what the stream watches: "
        f"{_RESTART}",
        {
            CHANGE_STREAM_FATAL: "ChangeStreamFatalError",  # see `fact_of`
            40585: "Location40585",  # not found, before 4.2
            40615: "Location40615",  # its collection was dropped, before 4.2
            40645: "Location40645",  # of an invalidate, before 4.2
        },
    ),
    **_facts(
        Fate.TOKEN,
        _UNREADABLE_TOKEN,
        {
            code: f"Location{code}"
            for code in (
                *(40646, 40647, 40648, 40649, 50788, 50793, 50794, 50795, 50796, 50811, 50854),
                *(50855, 50870, 50872, 51055, 51056, 51057, 6189500, 6189501, 6189502, 6189503),
                *(6189504, 6189505, 7182501, 7182504),
            )
        },
    ),
    NO_CODE: Fact(
        "no code",
        Fate.REFUSED,
        "the driver could not complete the authentication: check authMechanism and, for "
        "MONGODB-AWS, the function's role",
    ),
    18: Fact("AuthenticationFailed", Fate.CREDENTIALS, f"authentication failed: {_CHECK_USER}"),
    334: Fact(
        "MechanismUnavailable",
        Fate.CREDENTIALS,
        "the server does not offer the authentication mechanism to this user: check authMechanism "
        "and authSource in the secret",
    ),
    391: Fact(
        "ReauthenticationRequired",
        Fate.CREDENTIALS,
        f"the server wants the credentials again: {_CHECK_USER}",
    ),
    ATLAS_ERROR: Fact(
        "AtlasError",
        Fate.CREDENTIALS,
        "Atlas refused the credentials, or what was asked for: check the user and its database "
        "access, which read on the database suffices for, and the password in the secret",
    ),
    **_facts(
        Fate.TOO_LARGE,
        _SPLIT,
        {
            10334: "BSONObjectTooLarge",
            17280: "KeyTooLong",  # as servers before 6.0.9 answer for such an event
        },
    ),
    **_facts(Fate.REFUSED, _OWN_FAULT, {1: "InternalError", 8: "UnknownError"}),
    **_facts(
        Fate.REFUSED,
        _VALUE,
        {2: "BadValue", 14: "TypeMismatch", 168: "InvalidPipelineOperator"},
    ),
    9: Fact(
        "FailedToParse",
        Fate.REFUSED,
        "the server could not parse the stream's options or its resume token: check pipeline, "
        "event options, and whether the position belongs to this deployment",
    ),
    13: Fact("Unauthorized", Fate.REFUSED, _PRIVILEGES),
    20: Fact(
        "IllegalOperation",
        Fate.REFUSED,
        "the server does not allow this here: check that the stream watches a database of yours, "
        "and that the server is a replica set or a sharded cluster",
    ),
    26: Fact(
        "NamespaceNotFound",
        Fate.REFUSED,
        "a sharded cluster cannot watch a database that does not exist: check its name, or create "
        "its first collection",
    ),
    47: Fact(
        "NoMatchingDocument",
        Fate.REFUSED,
        "a required document image is missing: enable changeStreamPreAndPostImages on the "
        'collection, or choose "whenAvailable"',
    ),
    **_facts(
        Fate.REFUSED,
        _NO_COMMAND,
        {
            59: "CommandNotFound",
            115: "CommandNotSupported",
            235: "InternalErrorNotSupported",
            238: "NotImplemented",
        },
    ),
    72: Fact(
        "InvalidOptions",
        Fate.REFUSED,
        "the server does not take the stream's options together: check its database, collection "
        "and event options",
    ),
    73: Fact("InvalidNamespace", Fate.REFUSED, _NAMESPACE),
    **_facts(
        Fate.REFUSED,
        NEEDS_REPLICA_SET,
        {76: "NoReplicationEnabled", 123: "NotAReplicaSet", STANDALONE: "Location40573"},
    ),
    **_facts(
        Fate.REFUSED,
        "the pipeline needs more memory than the server gives an operation: narrow it by a $match "
        "first, or drop large fields",
        {146: "ExceededMemoryLimit", 292: "QueryExceededMemoryLimitNoDiskUseAllowed"},
    ),
    148: Fact(
        "ReadConcernMajorityNotEnabled",
        Fate.REFUSED,
        "change streams before MongoDB 4.2 need read concern majority: start mongod without "
        "enableMajorityReadConcern: false, or upgrade",
    ),
    **_facts(
        Fate.REFUSED,
        _VIEW,
        {
            166: "CommandNotSupportedOnView",
            167: "OptionNotSupportedOnView",
            169: "CommandOnShardedViewNotSupportedOnMongod",
        },
    ),
    214: Fact(
        "AuthenticationRestrictionUnmet",
        Fate.REFUSED,
        "the user may not connect from the function's address: check the user's "
        "authenticationRestrictions, clientSource and serverAddress",
    ),
    224: Fact(
        "QueryFeatureNotAllowed",
        Fate.REFUSED,
        "the server's featureCompatibilityVersion is below what the pipeline needs: raise it, or "
        "drop the newer operator",
    ),
    241: Fact(
        "ConversionFailure",
        Fate.REFUSED,
        "the pipeline converts a value of an event that cannot be converted: use $convert with "
        "onError and onNull, or match such events away first",
    ),
    376: Fact(
        "ChangeStreamNotEnabled",
        Fate.REFUSED,
        "change streams are switched off on this deployment: switch them on, by its own command "
        "(docs/deploy.md)",
    ),
    40324: Fact("Location40324", Fate.REFUSED, _STAGE),
    **_facts(Fate.REFUSED, _OPTION, {40413: "IDLDuplicateField", 40414: "IDLFailedToParse"}),
    40415: Fact("IDLUnknownField", Fate.REFUSED, _OPTION),
    MODIFIED_ID: Fact("Location51060", Fate.REFUSED, KEEP_ID),
}

# What the server says of 280 beside the token; by English words of its source, never repeated (G8).
_OF_280: Mapping[str, str] = {
    "modified by the pipeline": KEEP_ID,
    "split event": (
        "the position is inside a split event: set split_large_events = true again until the "
        "stream has moved on"
    ),
    "more than one document with document key": (
        'full_document = "updateLookup" finds several documents of one key: make their _id unique '
        'across the shards, or choose "default"'
    ),
}


def fact_of(code: int, words: str) -> Fact:
    """What is known of a code; `words` are the server's, which tell the causes of 280 apart.

    A pipeline's 280 must not be taken for the token's: giving up the position would not help it.
    """
    if code == CHANGE_STREAM_FATAL:
        for sign, remedy in _OF_280.items():
            if sign in words:
                return Fact(FACTS[code].name, Fate.REFUSED, remedy)
    return FACTS.get(code) or Fact(NOT_IN_THE_TABLE, Fate.REFUSED, _unknown())


def _unknown() -> str:
    return (
        "this code is not known to Tidemark; the position is unchanged and each run tries again: "
        f"look it up in MongoDB's list ({ERROR_CODE_LIST}) and in the server's log"
    )
