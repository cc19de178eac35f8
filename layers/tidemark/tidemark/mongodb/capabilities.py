"""What the deployment can do: asked once a client, judged against what a stream asks for; pure.

Sources: MongoDB manual, "Change Streams" and "$changeStreamSplitLargeEvent"; Amazon DocumentDB
developer guide, "Using change streams with Amazon DocumentDB".
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tidemark.errors import SourceRefused
from tidemark.settings import StreamSettings

STANDALONE = 40573  # the server's own code for a change stream on a standalone
NEEDS_REPLICA_SET = (
    "change streams need a replica set or a sharded cluster, and this is a standalone server: "
    "start mongod with --replSet and run rs.initiate(), or use Atlas"
)
DOCUMENTDB_HOSTS = (".docdb.amazonaws.com", ".docdb-elastic.amazonaws.com")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """One deployment. `version` is major, minor, patch as the server says."""

    product: Literal["MongoDB", "Amazon DocumentDB"]
    version: tuple[int, int, int]
    is_replicated: bool

    @property
    def start_after(self) -> bool:
        """Whether a stream can be opened behind an invalidate."""
        return self.product == "MongoDB" and self.version >= (4, 2, 0)

    @property
    def split_events(self) -> bool:
        """Whether the server knows `$changeStreamSplitLargeEvent`."""
        backported = (6, 0, 9) <= self.version < (6, 1, 0)
        return self.product == "MongoDB" and (backported or self.version >= (7, 0, 0))

    @property
    def images(self) -> bool:
        """Whether the server has pre- and post-images, and expanded events."""
        return self.product == "MongoDB" and self.version >= (6, 0, 0)

    def as_fields(self) -> dict[str, Any]:
        """The fields of a log event."""
        flags = {name: getattr(self, name) for name in ("start_after", "split_events", "images")}
        return asdict(self) | {"version": ".".join(map(str, self.version))} | flags


def judge_hello(
    hello: Mapping[str, Any], build: Mapping[str, Any], hosts: list[str]
) -> Capabilities:
    """The capabilities behind a server's answers to `hello` and `buildInfo`."""
    numbers: list[int] = [*build.get("versionArray", []), 0, 0, 0]
    is_documentdb = any(host.endswith(DOCUMENTDB_HOSTS) for host in hosts)
    return Capabilities(
        product="Amazon DocumentDB" if is_documentdb else "MongoDB",
        version=(numbers[0], numbers[1], numbers[2]),
        is_replicated="setName" in hello or hello.get("msg") == "isdbgrid",
    )


def require(server: Capabilities, stream: StreamSettings) -> None:
    """Refuse, early and with the remedy, what the server cannot do for `stream`.

    Raises SourceRefused.
    """
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
        if wanted and not has:
            raise SourceRefused(
                f"stream {stream.name!r} asks for {what}, which needs MongoDB {since} or later; "
                f"the server is {server.product} {'.'.join(map(str, server.version))}"
            )
