"""What the deployment can do: asked once a client, judged against what a stream asks for; pure.

A product is recognised by what it answers to `hello` and `buildInfo`; its host's name is a hint,
for no answer is known that only Amazon DocumentDB gives. What is not known is left to the server to
refuse, by a code that has its own sentence (`error_codes`).

Sources: MongoDB manual, "Change Streams", "$changeStreamSplitLargeEvent", "hello" and "buildInfo"
(`gitVersion` is among the fields that it calls stable) and, for `$clusterTime`, "Read Isolation,
Consistency, and Recency"; FerretDB's `buildInfo`, which has `ferretdb`; documentdb/documentdb,
whose `hello` has `internal.documentdb_versions` (`cosmos_versions` on older clusters of Azure's);
Amazon DocumentDB developer guide, "Using change streams with Amazon DocumentDB"; estuary/connectors
pull request 4592, where DocumentDB 5.0.0 at a name of its own refuses `startAfter` by 40415.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from tidemark.errors import SourceRefused
from tidemark.settings import StreamSettings

Product: TypeAlias = Literal[
    "MongoDB",
    "Amazon DocumentDB",
    "DocumentDB",
    "FerretDB",
    "Azure Cosmos DB",
    "MongoDB-compatible",
]

STANDALONE = 40573  # the server's own code for a change stream on a standalone
NEEDS_REPLICA_SET = (
    "change streams need a replica set or a sharded cluster, and this is a standalone server: "
    "start mongod with --replSet and run rs.initiate(), or use Atlas"
)
NO_EARLIEST = (
    '"earliest" needs the privilege find on local.oplog.rs, which the role read on the watched '
    "database does not hold, and which neither a sharded cluster nor Amazon DocumentDB can give: "
    "grant read on the database local, or give a time instead, as 2026-01-31T06:00:00Z"
)
OPLOG_REFUSED = {
    13,  # Unauthorized
    20,  # IllegalOperation: mongos has no database `local`
    26,  # NamespaceNotFound
    59,  # CommandNotFound
    73,  # InvalidNamespace
    115,  # CommandNotSupported
    238,  # NotImplemented
    8000,  # AtlasError, for all of these
}
HINTS: tuple[tuple[re.Pattern[str], Product], ...] = (  # domains that are a vendor's own
    (
        re.compile(r".+\.docdb(-elastic)?(\.[a-z0-9-]+)?\.amazonaws\.com(\.cn)?", re.IGNORECASE),
        "Amazon DocumentDB",
    ),
    (re.compile(r".+\.mongo(cluster)?\.cosmos\.azure\.com", re.IGNORECASE), "Azure Cosmos DB"),
)
WITHOUT_CHANGE_STREAMS = ("FerretDB", "DocumentDB")
OPTION_REFUSED = {
    40415,  # IDLUnknownField, as Amazon DocumentDB 5 says of startAfter
    9,  # FailedToParse, the other code for an option that cannot be read
}
NOT_MONGODBS = "01"  # how Amazon DocumentDB's tokens begin; MongoDB's begin with 82


@dataclass(frozen=True, slots=True)
class Capabilities:
    """One deployment. `version` is major, minor, patch as the server says.

    `set_name` is None behind mongos. Of the features, None is: not known, ask by using it.
    """

    product: Product
    version: tuple[int, int, int]
    is_replicated: bool
    is_sharded: bool = False
    set_name: str | None = None
    is_start_after_refused: bool = False

    @property
    def start_after(self) -> bool:
        """Whether a stream can be opened after an invalidate, by its own token."""
        is_known = self.product == "MongoDB" and self.version >= (4, 2, 0)
        return is_known and not self.is_start_after_refused

    @property
    def split_events(self) -> bool | None:
        """Whether the server knows `$changeStreamSplitLargeEvent`."""
        if self.product == "Amazon DocumentDB":
            return False  # version 8 refuses the stage
        backported = (6, 0, 9) <= self.version < (6, 1, 0)
        return self._as_of_mongodb(backported or self.version >= (7, 0, 0))

    @property
    def images(self) -> bool | None:
        """Whether the server has pre- and post-images, and expanded events."""
        return self._as_of_mongodb(self.version >= (6, 0, 0))

    def _as_of_mongodb(self, has: bool) -> bool | None:
        """What a version promises of MongoDB, promises nothing of another product."""
        if self.product == "MongoDB" or not has:
            return has
        return None

    @property
    def has_oplog(self) -> bool:
        """Whether there can be an oplog to read: `local.oplog.rs`, for who may."""
        others = self.product not in ("MongoDB", "MongoDB-compatible")
        return self.is_replicated and not self.is_sharded and not others

    def without_start_after(self) -> "Capabilities":
        """The same, once the server has refused the option all the same."""
        return replace(self, is_start_after_refused=True)

    def calls_lost_history_a_parse_error(self, token: Mapping[str, Any]) -> bool:
        """Whether code 9 at `token` means that it left the log: on Amazon DocumentDB.

        The token tells where the product could not be recognised.
        """
        return self.product == "Amazon DocumentDB" or is_documentdbs(token)

    def as_fields(self) -> dict[str, Any]:
        """The fields of a log event."""
        fields = asdict(self) | {"version": ".".join(map(str, self.version))}
        del fields["is_start_after_refused"]
        names = ("start_after", "split_events", "images", "has_oplog")
        return fields | {name: getattr(self, name) for name in names}


def is_documentdbs(token: Mapping[str, Any]) -> bool:
    """Whether a resume token has the form of Amazon DocumentDB's."""
    data = token.get("_data")
    return isinstance(data, str) and data.startswith(NOT_MONGODBS)


def judge_hello(
    hello: Mapping[str, Any], build: Mapping[str, Any], hosts: list[str]
) -> Capabilities:
    """The capabilities behind a server's answers to `hello` and `buildInfo`."""
    numbers: list[int] = [*build.get("versionArray", []), 0, 0, 0]
    is_sharded = hello.get("msg") == "isdbgrid"
    return Capabilities(
        product=_product(hello, build, hosts),
        version=(numbers[0], numbers[1], numbers[2]),
        is_replicated="setName" in hello or is_sharded,
        is_sharded=is_sharded,
        set_name=None if is_sharded else hello.get("setName"),
    )


def _product(hello: Mapping[str, Any], build: Mapping[str, Any], hosts: list[str]) -> Product:
    """By a sign that one product alone gives, else a vendor's own domain, else MongoDB's signs.

    The domain comes before MongoDB's signs, for what is compatible may give those too.
    """
    internal = hello.get("internal") or {}
    if "ferretdb" in build:
        return "FerretDB"
    if "documentdb_versions" in internal or "cosmos_versions" in internal:
        return "DocumentDB"
    for pattern, product in HINTS:
        if any(pattern.fullmatch(host) for host in hosts):
            return product
    return "MongoDB" if _has_mongodbs_signs(hello, build) else "MongoDB-compatible"


def _has_mongodbs_signs(hello: Mapping[str, Any], build: Mapping[str, Any]) -> bool:
    """A build's commit and, of what is replicated, the cluster's signed time in each answer."""
    is_replicated = "setName" in hello or hello.get("msg") == "isdbgrid"
    return bool(build.get("gitVersion")) and ("$clusterTime" in hello or not is_replicated)


def require(server: Capabilities, stream: StreamSettings) -> None:
    """Refuse, early and with the remedy, what the server cannot do for `stream`.

    Raises SourceRefused.
    """
    if server.product in WITHOUT_CHANGE_STREAMS and not server.is_replicated:
        raise SourceRefused(
            f"{server.product} has no change streams that are known here", STANDALONE
        )
    if not server.is_replicated:
        raise SourceRefused(NEEDS_REPLICA_SET, STANDALONE)
    wants_images = stream.full_document in ("whenAvailable", "required") or (
        stream.full_document_before_change in ("whenAvailable", "required")
    )
    lacking = [
        (stream.split_large_events, server.split_events, "split_large_events", "6.0.9 or 7.0"),
        (wants_images, server.images, "pre- and post-images", "6.0"),
        (stream.show_expanded_events, server.images, "show_expanded_events", "6.0"),
    ]
    for wanted, has, what, since in lacking:
        if wanted and has is False:
            raise SourceRefused(
                f"stream {stream.name!r} asks for {what}, which needs MongoDB {since} or later; "
                f"the server is {server.product} {'.'.join(map(str, server.version))}"
            )
