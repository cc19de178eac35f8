"""What a server says of itself.

Sources: the MongoDB manual, "hello", "buildInfo" and "serverStatus"; wire versions:
`src/mongo/db/wire_version.h`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servers.server import Server

WIRE_VERSIONS = {(4, 0): 7, (4, 2): 8, (4, 4): 9, (5, 0): 13, (6, 0): 17, (7, 0): 21, (8, 0): 25}
LIMITS = {
    "maxBsonObjectSize": 16 * 1024 * 1024,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
}
OF_A_BUILD = {  # what a build of mongod says of itself, and an emulation does not
    "gitVersion": "0000000000000000000000000000000000000000",
    "modules": [],
    "allocator": "tcmalloc-google",
    "javascriptEngine": "mozjs",
    "storageEngines": ["devnull", "wiredTiger"],
}


def hello(server: Server) -> dict[str, Any]:
    """The answer to `hello`, `isMaster` and their spellings."""
    is_primary, character = server.is_primary, server.character
    known = WIRE_VERSIONS.get(character.version[:2], max(WIRE_VERSIONS.values()))
    wire = character.wire_version or known
    versions = {"minWireVersion": 0, "maxWireVersion": wire}
    answer = {"helloOk": True, "ismaster": is_primary, "isWritablePrimary": is_primary}
    if character.product == "mongos":
        return answer | {"msg": "isdbgrid"} | LIMITS | versions
    members = {
        "setName": character.set_name,
        "setVersion": 1,
        "hosts": [server.address],
        "me": server.address,
        "secondary": not is_primary,
    }
    return answer | members | LIMITS | versions


def build_info(server: Server) -> dict[str, Any]:
    """The answer to `buildInfo`."""
    version = server.character.version
    answer = {
        "version": ".".join(map(str, version)),
        "versionArray": [*version, 0],
        "bits": 64,
        "maxBsonObjectSize": LIMITS["maxBsonObjectSize"],
    }
    return answer if server.character.product == "documentdb" else answer | OF_A_BUILD


def status(server: Server) -> dict[str, Any]:
    """The answer to `serverStatus`: the oplog's two ends, where there is an oplog."""
    answer: dict[str, Any] = {
        "host": server.address,
        "process": server.character.product,
        "version": ".".join(map(str, server.character.version)),
    }
    if server.character.product == "mongod":
        ends = {"earliestOptime": server.oplog.first_time, "latestOptime": server.oplog.last_time}
        answer["oplog"] = ends
    return answer
