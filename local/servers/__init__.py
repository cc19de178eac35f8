"""MongoDB servers of our own: an oplog in memory behind the real wire protocol, with a character.

The embedded MongoDB is kinder than the ones that people have. These are as unkind as told:

    with servers.serve(servers.MONGOD_LONG_SCANS) as server:
        server.insert("shop.orders", {"_id": 1})
        server.foreign(60_000)              # takes no time to write; each costs its scan
        server.faults.fail("getMore", 11601)
        MongoClient(server.uri).shop.orders.watch()
        assert server.scans_left_behind == 0

Any driver can write to them and watch them. `Character` holds every trait with its source, and the
constants here are those of known deployments. What a server does not know it refuses.
"""

from servers.character import (
    DOCUMENTDB_5,
    DOCUMENTDB_8,
    MONGOD,
    MONGOD_EMPTIES,
    MONGOD_LONG_SCANS,
    MONGODB_4_0,
    MONGOS,
    Character,
)
from servers.listener import serve
from servers.server import Server

__all__ = [
    "DOCUMENTDB_5",
    "DOCUMENTDB_8",
    "MONGOD",
    "MONGODB_4_0",
    "MONGOD_EMPTIES",
    "MONGOD_LONG_SCANS",
    "MONGOS",
    "Character",
    "Server",
    "serve",
]
