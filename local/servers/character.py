"""How a server behaves: each trait with where it was read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from servers import errors

Scanning = Literal["long", "moved", "unmoved"]
ClosingToken = Literal["own", "unchanged", "absent"]


@dataclass(frozen=True)
class Character:
    """One deployment's behaviour. The defaults are mongod 8.0's, with an oplog that costs nothing.

    Traits combine: `replace(MONGOS, scan_cost_s=0.0007)`.
    """

    product: Literal["mongod", "mongos", "documentdb"] = "mongod"
    """What `hello` and `buildInfo` show. mongos says `msg: "isdbgrid"` and no `setName`. Source:
    the MongoDB manual, "hello". DocumentDB calls itself a replica set "rs0" of one version; which
    further fields it leaves out of `buildInfo` is not published: ours leaves out all that a build
    of mongod says of itself, `gitVersion` first."""

    version: tuple[int, int, int] = (8, 0, 4)

    wire_version: int | None = None
    """What `hello` says instead of its version's own. PyMongo 4.20 refuses less than 9 (4.4)."""

    set_name: str = "rs0"
    """`setName` in `hello`: all that tells one replica set from another. Source: the manual,
    "hello"; "rs0" is DocumentDB's for every cluster (its connection strings say so)."""

    scan_cost_s: float = 0.0
    """What each oplog entry costs to look at. Source: a published server log (5.0): one getMore
    with an await of 1 s examined 2,024 entries in 8,090 ms before it answered with one event."""

    scanning: Scanning = "long"
    """What a getMore does that has met no event for `maxTimeMS`.

    "long": it scans on, until an event or the oplog's end: `maxTimeMS` only bounds the wait at the
    end. Source: `waitForInsertsDeadline` in `src/mongo/db/commands/getmore_cmd.cpp`, which is asked
    nowhere but where the plan has reached the end; the log above.
    "moved": it answers, empty, with a token that has moved. Source: the driver specification
    "Change Streams", `resumeToken` after an empty batch; readers that report a long sequence of
    empty answers while events wait; DocumentDB's guide, which scans "a small period" at a time.
    "unmoved": it answers, empty, with a token that has not moved, while the shards scan on.
    Source: `src/mongo/s/query/router_stage_merge.cpp` (a timeout of the wait is an empty answer,
    the shards' requests stay under way), `async_results_merger.cpp` (the token is the minimum)."""

    fills_batches: bool = True
    """Whether a scan that has an event goes on until its batch is full or the oplog ends: on mongod
    only `batchSize: 1` makes a getMore answer at the first event. Source: `generateBatch` in
    `getmore_cmd.cpp` asks for the next result until `enoughForGetMore`, and
    `DocumentSourceCursor::loadBatch` scans to the end as soon as nothing is waited for."""

    cold_shard_s: float = 0.0
    """How long after a write the shard with nothing to say holds back event and token: mongos may
    pass on only what every shard has passed. Source: `periodicNoopIntervalSecs` (10 s) in the
    manual, "Change Streams", "Sharded Clusters"; SERVER-126545."""

    closes_late: bool = False
    """Whether the close always comes one answer after the invalidate. It does in any case where the
    invalidate fills its batch. Source: `enoughForGetMore` ends the loop before
    `document_source_change_stream_check_invalidate` is asked again, which is where it throws."""

    closing_token: ClosingToken = "own"
    """The post-batch token of the answer that closes the cursor: the invalidate's own, what it was,
    or none. Source: `ChangeStreamInvalidationInfo` as `getmore_cmd.cpp` and mongos use it (5.0;
    older servers end the batch without one)."""

    start_after_refused: int | None = None
    """The code that refuses the option `startAfter`; None where the server has it (4.2). Source:
    4.0 and DocumentDB answer 40415, an unknown field of `$changeStream`: estuary/connectors, pull
    request 4592, on DocumentDB 5.0.0; its page of `$changeStream` does not list the option."""

    post_batch_tokens: bool = True
    """Whether replies carry `postBatchResumeToken` (4.0.7; SERVER-38408). DocumentDB's guide says
    that it "now" does, and 5.0.0 was seen to (the pull request above): older patches do not."""

    token_form: Literal["mongodb", "documentdb"] = "mongodb"
    """See `servers.tokens`."""

    history_lost: int = errors.CHANGE_STREAM_HISTORY_LOST
    """The code of a token that left the oplog; DocumentDB says CappedPositionLost, 136. It comes
    when the oplog is first read: with the aggregate, or with the first getMore of `batchSize: 0`.
    Source: `document_source_change_stream_check_resumability.cpp`, which judges in `doGetNext`."""

    bad_token: int = errors.FAILED_TO_PARSE
    """The code of a token in another form. Source: DocumentDB on a token of MongoDB's."""

    refused_stages: frozenset[str] = frozenset()
    """Stages that the server does not have. DocumentDB answers 304, "Aggregation stage not
    supported" (published error reports); 8.0 passes a check of versions for
    `$changeStreamSplitLargeEvent` and refuses it all the same."""

    shard_key: tuple[str, ...] = ()
    """Fields that stand before `_id` in `documentKey`. Source: the manual, "Change Events"."""

    reads_refused: int | None = None
    """The code that refuses `find` on `local.oplog.rs`: 13 without the privilege, 20 through mongos
    ("can't use 'local' database through mongos"), 8000 for any refusal of Atlas."""

    status_refused: int | None = None
    """The code that refuses `serverStatus`, which needs clusterMonitor."""

    outlives_client: bool = True
    """Whether a getMore scans on after its client has disconnected. Source: the manual says of
    `aggregate` and `find` that a disconnect ends them, and does not say so of `getMore`."""

    @property
    def tells_cluster_time(self) -> bool:
        """Whether every reply carries the signed `$clusterTime`.

        Source: the manual, "Read Isolation, Consistency, and Recency"; DocumentDB's published
        replies do not show it.
        """
        return self.product != "documentdb"

    @property
    def has_wall_time(self) -> bool:
        """Whether events carry `wallTime` (6.0)."""
        return self.product != "documentdb" and self.version >= (6, 0, 0)


SPLIT = "$changeStreamSplitLargeEvent"
MONGOD = Character()
MONGOD_LONG_SCANS = Character(scan_cost_s=0.0007)
MONGOD_EMPTIES = Character(scan_cost_s=0.0007, scanning="moved")
MONGOS = Character(
    product="mongos",
    scanning="unmoved",
    fills_batches=False,
    shard_key=("region",),
    reads_refused=errors.ILLEGAL_OPERATION,
)
MONGODB_4_0 = Character(
    version=(4, 0, 28),
    wire_version=9,
    start_after_refused=errors.UNKNOWN_OPTION,
    closing_token="unchanged",
    refused_stages=frozenset({SPLIT, "$set", "$unset", "$replaceWith"}),
)
DOCUMENTDB_5 = Character(
    product="documentdb",
    version=(5, 0, 0),
    scanning="moved",
    closing_token="unchanged",
    start_after_refused=errors.UNKNOWN_OPTION,
    token_form="documentdb",
    history_lost=errors.CAPPED_POSITION_LOST,
    refused_stages=frozenset({SPLIT, "$replaceWith"}),
    reads_refused=errors.UNAUTHORIZED,
    status_refused=errors.UNAUTHORIZED,
)
DOCUMENTDB_8 = replace(DOCUMENTDB_5, version=(8, 0, 0))
