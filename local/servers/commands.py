"""What a server answers to each command."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bson.int64 import Int64
from bson.timestamp import Timestamp

from servers import events, hello, pipeline
from servers.cursors import Batch, Cursor, Start
from servers.errors import (
    COMMAND_NOT_FOUND,
    INVALID_RESUME_TOKEN,
    STAGE_NOT_SUPPORTED,
    UNKNOWN_OPTION,
    UNKNOWN_STAGE,
    CommandError,
)
from servers.scans import Client, Scan
from servers.tokens import BadToken, Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.server import Server

Command = dict[str, Any]
Answer = dict[str, Any]
FIRST_BATCH = 101  # where the driver names no batchSize
AWAIT_MS = 1000  # likewise, of maxTimeMS
OPLOG = "local.oplog.rs"
OPTIONS = {
    "fullDocument",
    "fullDocumentBeforeChange",
    "resumeAfter",
    "startAfter",
    "startAtOperationTime",
    "allChangesForCluster",
    "showExpandedEvents",
}


def answer(server: Server, command: Command, client: Client) -> Answer:
    """The reply to a command, with the operation time. Raises ConnectionClosed."""
    name = next(iter(command))
    server.commands.append((name, command))
    try:
        server.faults.strike(name)
        reply = {"ok": 1.0} | _run(server, name, command, client)
    except CommandError as error:
        reply = error.as_answer()
    return reply | _times(server)


def _run(server: Server, name: str, command: Command, client: Client) -> Answer:
    act = COMMANDS.get(name.lower())
    if act is None:
        raise CommandError(COMMAND_NOT_FOUND, f"no such command: '{name}'")
    if name.lower() not in OF_ANY_NODE:
        server.require_primary()
    return act(server, command, client)


def _times(server: Server) -> Answer:
    """What every reply of a replicated deployment ends with."""
    now = server.oplog.last_time
    if not server.character.tells_cluster_time:
        return {"operationTime": now}
    signature = {"hash": bytes(20), "keyId": Int64(0)}
    return {"operationTime": now, "$clusterTime": {"clusterTime": now, "signature": signature}}


# ------------------------------------------------------------------------------ change streams


def _aggregate(server: Server, command: Command, client: Client) -> Answer:
    first: Command = next(iter(command["pipeline"]), {})
    if "$changeStream" not in first:
        raise CommandError(UNKNOWN_STAGE, "this server aggregates change streams only")
    cursor = _opened(server, command, first["$changeStream"])
    limit = command.get("cursor", {}).get("batchSize", FIRST_BATCH)
    batch = Batch(limit)
    if limit:
        max_s = command["maxTimeMS"] / 1000 if "maxTimeMS" in command else None
        until_s = time.monotonic() + max_s if max_s else None
        scan = Scan(client, limit_s=until_s, ends_with_client=True)
        batch = _filled(server, cursor, scan, limit, wait_s=None)
    cursor_id = Int64(0) if cursor.is_closed else server.keep(cursor)
    return _cursor_answer(server, cursor, cursor_id, {"firstBatch": batch.events})


def _get_more(server: Server, command: Command, client: Client) -> Answer:
    cursor_id = command["getMore"]
    cursor = server.cursor(cursor_id)
    limit, wait_s = command.get("batchSize") or None, command.get("maxTimeMS", AWAIT_MS) / 1000
    scan = Scan(client, ends_with_client=not server.character.outlives_client)
    try:
        batch = _filled(server, cursor, scan, limit, wait_s=wait_s)
    except CommandError:
        server.forget(cursor_id)
        raise
    if cursor.is_closed:
        server.forget(cursor_id)
        cursor_id = 0
    return _cursor_answer(server, cursor, Int64(cursor_id), {"nextBatch": batch.events})


def _filled(
    server: Server, cursor: Cursor, scan: Scan, limit: int | None, *, wait_s: float | None
) -> Batch:
    cursor.scan = scan
    try:
        with server.scans.under_way(scan):
            return cursor.fill(scan, limit, wait_s=wait_s)
    finally:
        cursor.scan = None


def _cursor_answer(
    server: Server, cursor: Cursor, cursor_id: Int64, batch: dict[str, Any]
) -> Answer:
    reply = {"id": cursor_id, "ns": cursor.namespace} | batch
    if server.character.post_batch_tokens and cursor.token:
        reply["postBatchResumeToken"] = cursor.token
    return {"cursor": reply}


def _opened(server: Server, command: Command, options: Command) -> Cursor:
    """The cursor that an aggregate asks for. Raises CommandError where it may not be."""
    stages = command["pipeline"][1:]
    _require_known(server, options, stages)
    scope = _scope(command, options)
    looks_up = options.get("fullDocument", "default") != "default"
    view = events.View(server.oplog, scope, server.form, server.character, looks_up)
    namespace = f"{command['$db']}.{scope.collection or '$cmd.aggregate'}"
    return Cursor(namespace, view, _start(server, options), stages)


def _require_known(server: Server, options: Command, stages: list[Command]) -> None:
    if unknown := options.keys() - OPTIONS:
        raise CommandError(UNKNOWN_OPTION, f"'$changeStream.{min(unknown)}' is an unknown field")
    refused = server.character.start_after_refused
    if "startAfter" in options and refused is not None:
        raise CommandError(refused, "'$changeStream.startAfter' is an unknown field")
    for name in [next(iter(stage)) for stage in stages]:
        if name in server.character.refused_stages:
            is_documentdb = server.character.product == "documentdb"
            code = STAGE_NOT_SUPPORTED if is_documentdb else UNKNOWN_STAGE
            raise CommandError(code, f"Aggregation stage not supported: '{name}'")
    pipeline.validate(stages)


def _scope(command: Command, options: Command) -> events.Scope:
    if options.get("allChangesForCluster"):
        return events.Scope(None, None)
    collection = command["aggregate"]
    return events.Scope(command["$db"], collection if isinstance(collection, str) else None)


def _start(server: Server, options: Command) -> Start:
    """Where the options begin: after a token, at a time, or after the last entry."""
    token = options.get("startAfter") or options.get("resumeAfter")
    if token is None:
        last = server.oplog.last_time
        when = options.get("startAtOperationTime") or Timestamp(last.time, last.inc + 1)
        place = Place(when, "high_water")
        return Start(place, server.form.token(place), _is_lost(server, place))
    place = _place(server, token)
    if place.kind == "invalidate" and "resumeAfter" in options:
        raise CommandError(INVALID_RESUME_TOKEN, "resumeAfter of an invalidate is not allowed")
    return Start(place, token, _is_lost(server, place))


def _place(server: Server, token: Command) -> Place:
    try:
        return server.form.place(token)
    except BadToken:
        raise CommandError(server.character.bad_token, "Invalid resume token") from None


def _is_lost(server: Server, place: Place) -> bool:
    return server.oplog.is_pruned and place.time < server.oplog.first_time


def _kill_cursors(server: Server, command: Command, _: Client) -> Answer:
    killed = [cursor_id for cursor_id in command["cursors"] if server.forget(cursor_id)]
    unknown = [cursor_id for cursor_id in command["cursors"] if cursor_id not in killed]
    return {
        "cursorsKilled": killed,
        "cursorsNotFound": unknown,
        "cursorsAlive": [],
        "cursorsUnknown": [],
    }


# ----------------------------------------------------------------------------- plain documents


def _find(server: Server, command: Command, _: Client) -> Answer:
    namespace = f"{command['$db']}.{command['find']}"
    if namespace == OPLOG:
        found = _first_entry(server)
    else:
        query = command.get("filter", {})
        found = _found(server, namespace, query, many=True)
        if command.get("sort", {}).get("$natural") == -1:
            found.reverse()
    skipped = found[command.get("skip", 0) :]
    batch = skipped[: command.get("limit") or None]
    return {"cursor": {"id": Int64(0), "ns": namespace, "firstBatch": batch}}


def _first_entry(server: Server) -> list[dict[str, Any]]:
    """Only the oplog's first entry: it is all that is asked for."""
    if server.character.reads_refused is not None:
        raise CommandError(server.character.reads_refused, "not authorized on local")
    return [{"ts": server.oplog.first_time, "op": "n", "ns": "", "v": 2}]


def _insert(server: Server, command: Command, _: Client) -> Answer:
    server.oplog.insert(f"{command['$db']}.{command['insert']}", *command["documents"])
    return {"n": len(command["documents"])}


def _update(server: Server, command: Command, _: Client) -> Answer:
    namespace = f"{command['$db']}.{command['update']}"
    changed, upserted = 0, []
    for index, each in enumerate(command["updates"]):
        found = _found(server, namespace, each["q"], many=each.get("multi", False))
        for document in found:
            _change(server, namespace, document["_id"], each["u"])
        changed += len(found)
        if not found and each.get("upsert"):
            made = each["q"] | each["u"].get("$set", {}) | _plain(each["u"])
            server.oplog.insert(namespace, made)
            upserted.append({"index": index, "_id": made["_id"]})
    counts = {"n": changed + len(upserted), "nModified": changed}
    return counts | ({"upserted": upserted} if upserted else {})


def _change(server: Server, namespace: str, key: Any, changes: dict[str, Any]) -> None:
    if _plain(changes):
        server.oplog.replace(namespace, {"_id": key} | changes)
    else:
        server.oplog.update(namespace, key, changes)


def _plain(changes: dict[str, Any]) -> dict[str, Any]:
    """The fields of a whole document; none of an update by operators."""
    return {name: value for name, value in changes.items() if not name.startswith("$")}


def _delete(server: Server, command: Command, _: Client) -> Answer:
    namespace, count = f"{command['$db']}.{command['delete']}", 0
    for each in command["deletes"]:
        for document in _found(server, namespace, each["q"], many=each.get("limit") != 1):
            count += server.oplog.delete(namespace, document["_id"])
    return {"n": count}


def _found(
    server: Server, namespace: str, query: dict[str, Any], *, many: bool
) -> list[dict[str, Any]]:
    documents = server.oplog.documents(namespace)
    found = [document for document in documents if pipeline.matches(document, query)]
    return found if many else found[:1]


def _create(server: Server, command: Command, _: Client) -> Answer:
    server.oplog.collection(f"{command['$db']}.{command['create']}")
    return {}


def _drop(server: Server, command: Command, _: Client) -> Answer:
    server.oplog.drop(f"{command['$db']}.{command['drop']}")
    return {}


def _drop_database(server: Server, command: Command, _: Client) -> Answer:
    server.oplog.drop_database(command["$db"])
    return {}


# ------------------------------------------------------------------------------- of the server


def _server_status(server: Server, _: Command, __: Client) -> Answer:
    if server.character.status_refused is not None:
        raise CommandError(server.character.status_refused, "not authorized on admin")
    return hello.status(server)


def _hello(server: Server, _: Command, __: Client) -> Answer:
    return hello.hello(server)


def _build_info(server: Server, _: Command, __: Client) -> Answer:
    return hello.build_info(server)


def _nothing(_: Server, __: Command, ___: Client) -> Answer:
    return {}


OF_ANY_NODE = {"hello", "ismaster", "buildinfo", "ping", "endsessions", "killcursors"}
COMMANDS: dict[str, Callable[[Server, Command, Client], Answer]] = {
    "aggregate": _aggregate,
    "buildinfo": _build_info,
    "create": _create,
    "delete": _delete,
    "drop": _drop,
    "dropdatabase": _drop_database,
    "endsessions": _nothing,
    "find": _find,
    "getmore": _get_more,
    "hello": _hello,
    "insert": _insert,
    "ismaster": _hello,
    "killcursors": _kill_cursors,
    "ping": _nothing,
    "serverstatus": _server_status,
    "update": _update,
}
