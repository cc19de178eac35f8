"""What Tidemark can be told, as frozen settings; no I/O.

Each field's annotation carries its rule and, in `Settings`, the environment variable that sets it:
adding a key is adding a field. `config` reads them.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from bson import Timestamp, json_util

from tidemark.pipeline import Pipeline
from tidemark.rules import Flag, Moment, OneOf, Seconds, Text, Whole, WordOrPaths, matching
from tidemark.targets import LEAST_BYTES, is_queue_url

KNOWN_SINKS = ("deliver",)
STACK_SINK = "destination"  # the sink that the stack's parameters define

FullDocument = Literal["default", "updateLookup", "whenAvailable", "required"]
FullDocumentBeforeChange = Literal["off", "whenAvailable", "required"]
Start = Literal["now", "earliest"]
OnFailure = Literal["dead_letter", "halt"]
OnHistoryLost = Literal["halt", "now", "earliest"]
OnDefinitionChange = Literal["refuse", "resume", "restart"]
SinkType = Literal["sqs", "sns", "eventbridge", "kinesis"]
Body = Literal["change", "document"]
Encoding = Literal["relaxed", "canonical", "simplified"]
Oversize = Literal["claim_check", "dead_letter", "halt"]
Group = Literal["document", "namespace", "stream"]
Tls = Literal["required", "off"]
Mode = Literal["drain", "linger"]


_OWN_DATABASES = ("admin", "config", "local")  # a change stream is refused there (error 73)
_MOST_BYTES = 255  # of a namespace, `database.collection`, since MongoDB 4.4


def _is_database(name: str) -> bool:
    """Whether MongoDB on Linux and its driver take `name`; on Windows it takes fewer."""
    is_valid = not set(name) & set('/\\. "$\0') and 0 < len(name.encode()) < 64
    return is_valid and name not in _OWN_DATABASES


def _is_collection(name: str) -> bool:
    """Whether MongoDB and its driver take `name` in the shortest of databases."""
    is_named = all(name.split(".")) and not set(name) & {"$", "\0"}
    return is_named and not name.startswith("system.") and len(name.encode()) <= _MOST_BYTES - 2


def is_namespace(database: str, collection: str) -> bool:
    """Whether the two together are no longer than MongoDB takes."""
    return len(f"{database}.{collection}".encode()) <= _MOST_BYTES


_NAME = Text("1 to 128 of A-Z a-z 0-9 _ . -", matching(r"[A-Za-z0-9_.-]{1,128}"))
_DATABASE = Text(
    'a name below 64 bytes without any of /\\. "$, and none of admin, config and local, which have '
    "no change streams",
    _is_database,
)
_COLLECTION = Text(
    "a name below 254 bytes, without $, that does not begin with system. and has no dot at either "
    "end or beside another",
    _is_collection,
)
_SINK = Text("deliver, or the name of a [sinks] table", bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """One stream: what it watches, how it is read, where its changes go.

    Neither `database` nor `collection`: the whole deployment. `max_age_s` of 0: a batch is
    delivered once the server's own is drained. `checkpoint_interval_s` of 0: after each batch.
    """

    name: Annotated[str, _NAME]
    database: Annotated[str | None, _DATABASE] = None
    collection: Annotated[str | None, _COLLECTION] = None
    pipeline: Annotated[tuple[dict[str, Any], ...], Pipeline()] = ()
    full_document: Annotated[FullDocument | None, OneOf(FullDocument)] = None
    full_document_before_change: Annotated[
        FullDocumentBeforeChange | None, OneOf(FullDocumentBeforeChange)
    ] = None
    show_expanded_events: Annotated[bool, Flag()] = False
    split_large_events: Annotated[bool, Flag()] = False
    start_at: Annotated[Start | Timestamp, Moment(Start)] = "now"
    sink: Annotated[str, _SINK] = "deliver"
    max_changes: Annotated[int, Whole(1, 100_000)] = 1_000
    max_bytes: Annotated[int | None, Whole(1)] = None
    max_age_s: Annotated[float, Seconds(0, 300)] = 0.0
    idle_s: Annotated[float | None, Seconds(0, 300)] = None
    read_ahead: Annotated[bool, Flag()] = False
    checkpoint_interval_s: Annotated[float, Seconds(0, 300)] = 1.0
    deliver_timeout_s: Annotated[float, Seconds(1, 900)] = 100.0
    max_attempts: Annotated[int, Whole(1, 100)] = 5
    on_failure: Annotated[OnFailure, OneOf(OnFailure)] = "dead_letter"
    on_history_lost: Annotated[OnHistoryLost | Timestamp, Moment(OnHistoryLost)] = "halt"
    on_definition_change: Annotated[OnDefinitionChange, OneOf(OnDefinitionChange)] = "refuse"

    @property
    def definition(self) -> dict[str, Any]:
        """What a position belongs to (G10): JSON, with the pipeline in canonical Extended JSON.

        Key order inside the pipeline counts, as it does in BSON.
        """
        pipeline = json_util.dumps(self.pipeline, json_options=json_util.CANONICAL_JSON_OPTIONS)
        before = self.full_document_before_change
        return {
            "database": self.database,
            "collection": self.collection,
            "pipeline": json.loads(pipeline),
            "full_document": None if self.full_document == "default" else self.full_document,
            "full_document_before_change": None if before == "off" else before,
            "show_expanded_events": self.show_expanded_events,
            "split_large_events": self.split_large_events,
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the definition, 64 hex digits: stored with the position (G10)."""
        canonical = json.dumps(self.definition, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


_BYTES = Whole(LEAST_BYTES)  # the most is the type's (`targets`)
_SOURCE = Text(
    "1 to 256 of A-Z a-z 0-9 . - _ / that do not start with aws.",
    matching(r"(?!aws\.)[A-Za-z0-9._/-]{1,256}"),
)
_DETAIL_TYPE = Text(
    "1 to 100 characters, in which {operationType} stands for the change's",
    lambda text: 0 < len(text) <= 100 and not set(text.replace("{operationType}", "")) & {*"{}"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSettings:
    """One destination: what receives the changes, and what is sent of each.

    `body` is the whole change, the document alone, or the paths that are kept. None of `group`,
    `source`, `detail_type` and `cloudevents`: the default of the types that have it (`targets`).
    None of the limits: the service's.
    """

    name: str
    type: Annotated[SinkType, OneOf(SinkType)]
    target: Annotated[str, Text("the target's ARN, name or URL", bool)]
    body: Annotated[Body | tuple[str, ...], WordOrPaths(Body)] = "change"
    encoding: Annotated[Encoding, OneOf(Encoding)] = "relaxed"
    oversize: Annotated[Oversize, OneOf(Oversize)] = "claim_check"
    concurrency: Annotated[int, Whole(1, 32)] = 4
    max_message_bytes: Annotated[int | None, _BYTES] = None
    max_batch_bytes: Annotated[int | None, _BYTES] = None
    group: Annotated[Group | None, OneOf(Group)] = None
    source: Annotated[str | None, _SOURCE] = None
    detail_type: Annotated[str | None, _DETAIL_TYPE] = None
    cloudevents: Annotated[bool | None, Flag()] = None


@dataclass(frozen=True, slots=True)
class Variable:
    """The environment variable that sets a field, and the file's table that it overrides."""

    name: str
    table: Literal["run"] | None = None


_TEXT = Text("text", bool)
_TABLE_NAME = Text(
    "the DynamoDB table's name or ARN", matching(r"[A-Za-z0-9_.-]{3,255}|arn:[^\s]+:table/[^\s]+")
)
_URI = Text(
    "a connection string that starts with mongodb:// or mongodb+srv://",
    matching(r"mongodb(\+srv)?://\S+"),
)
_BUCKET = Text("an S3 bucket's name", matching(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"))
_QUEUE_URL = Text("the queue's http(s) URL", is_queue_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a container is told: where its state lives, how it runs, what it watches.

    One of `secret_id`, `parameter` and `uri` is set. `budget_s` of None: as long as Lambda allows.
    """

    table: Annotated[str, _TABLE_NAME, Variable("TIDEMARK_TABLE")]
    secret_id: Annotated[str | None, _TEXT, Variable("MONGODB_SECRET_ID")] = None
    parameter: Annotated[str | None, _TEXT, Variable("MONGODB_PARAMETER")] = None
    uri: Annotated[str | None, _URI, Variable("MONGODB_URI")] = field(default=None, repr=False)
    ca_file: Annotated[str | None, _TEXT, Variable("MONGODB_CA_FILE")] = None
    tls: Annotated[Tls, OneOf(Tls), Variable("MONGODB_TLS")] = "required"
    mode: Annotated[Mode, OneOf(Mode), Variable("TIDEMARK_MODE", "run")] = "drain"
    budget_s: Annotated[float | None, Seconds(1, 900), Variable("TIDEMARK_BUDGET_S", "run")] = None
    reserve_s: Annotated[float, Seconds(1, 300), Variable("TIDEMARK_RESERVE_S", "run")] = 7.0
    lease_s: Annotated[float, Seconds(5, 900), Variable("TIDEMARK_LEASE_S", "run")] = 30.0
    max_await_ms: Annotated[int, Whole(1, 1_000), Variable("TIDEMARK_MAX_AWAIT_MS", "run")] = 250
    acquire_wait_s: Annotated[
        float, Seconds(0, 900), Variable("TIDEMARK_ACQUIRE_WAIT_S", "run")
    ] = 0.0
    dead_letter_queue_url: Annotated[
        str | None, _QUEUE_URL, Variable("TIDEMARK_DEAD_LETTER_QUEUE_URL")
    ] = None
    payload_bucket: Annotated[str | None, _BUCKET, Variable("TIDEMARK_PAYLOAD_BUCKET")] = None
    sink_type: Annotated[SinkType | None, OneOf(SinkType), Variable("TIDEMARK_SINK_TYPE")] = None
    sink_target: Annotated[str | None, _TEXT, Variable("TIDEMARK_SINK_TARGET")] = None
    sinks: tuple[SinkSettings, ...] = ()
    streams: tuple[StreamSettings, ...]
