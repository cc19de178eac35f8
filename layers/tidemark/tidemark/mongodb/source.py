"""The `Source` on a MongoDB deployment."""

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pymongo
from bson.errors import InvalidBSON
from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure

from tidemark.errors import HistoryLost, SourceRefused, TidemarkError
from tidemark.model import Change, Position
from tidemark.mongodb.capabilities import (
    NEEDS_REPLICA_SET,
    NO_EARLIEST,
    OPLOG_REFUSED,
    STANDALONE,
    Capabilities,
    judge_hello,
    require,
)
from tidemark.mongodb.client import Client, Clients
from tidemark.mongodb.errors import AuthenticationFailed, ClientClosed, translated
from tidemark.mongodb.raw_intake import RawIntake
from tidemark.mongodb.reader import DirectIntake, Intake, MongoReader, Stream
from tidemark.ports import Reader
from tidemark.settings import Settings, StreamSettings

ONLY_INVALIDATES = ({"$match": {"operationType": "invalidate"}},)
SPLIT: dict[str, Any] = {"$changeStreamSplitLargeEvent": {}}
FAILED_TO_PARSE = 9
LEAST_S = 0.1  # a timeout of 0 would mean none
T = TypeVar("T")


class MongoSource:
    """Change streams of one deployment, through the container's one client."""

    def __init__(
        self,
        settings: Settings,
        connection_string: Callable[[], str],
        on_connected: Callable[[Capabilities], None] = lambda _: None,
    ) -> None:
        self._max_await_ms = settings.max_await_ms
        self._clients = Clients(settings, connection_string)
        self._on_connected = on_connected
        self._probing = threading.Lock()
        self._probed: tuple[Client, Capabilities] | None = None

    def capabilities(self, client: Client) -> Capabilities:
        """What the deployment behind `client` can do; asked once a client."""
        with self._probing:
            if self._probed is None or self._probed[0] is not client:
                self._probed = (client, _probe(client))
                self._on_connected(self._probed[1])
            return self._probed[1]

    def now(self, *, timeout_s: float) -> Position:
        """Just after the deployment's operation time, which a `ping` brings."""
        reply = self._do("asking for the operation time", timeout_s, _ping)
        now = reply.get("operationTime")
        if now is None:
            raise SourceRefused(NEEDS_REPLICA_SET, STANDALONE)
        return Position(operation_time=Timestamp(now.time, now.inc + 1))

    def earliest(self, *, timeout_s: float) -> Position:
        """The oplog's first entry. Needs `find` on `local.oplog.rs`."""
        entry = self._do("reading the oplog's first entry", timeout_s, self._first_entry)
        if entry is None:
            raise SourceRefused(NO_EARLIEST)
        return Position(operation_time=entry["ts"])

    def _first_entry(self, client: Client) -> Any:
        """The entry, or None; what the server is was asked first, so its refusal is of the oplog.

        Atlas has one code for this and for refused credentials: the client must not go for it.
        """
        if not self.capabilities(client).has_oplog:
            return None
        try:
            return _first_entry(client)
        except OperationFailure as error:
            if error.code in OPLOG_REFUSED:
                raise SourceRefused(f"{NO_EARLIEST} (code {error.code})", error.code) from error
            raise

    def open(
        self,
        stream: StreamSettings,
        position: Position,
        *,
        timeout_s: float,
        batch_size: int | None,
    ) -> Reader:
        """A reader behind `position`; see `ports.Source`."""
        pipeline = (*stream.pipeline, SPLIT) if stream.split_large_events else stream.pipeline
        watch = partial(self._watch, stream, list(pipeline), batch_size=batch_size)
        is_raw = stream.split_large_events or stream.max_bytes is not None
        opened = partial(self._opened, watch, is_raw=is_raw)
        try:
            intake = self._do(f"opening {stream.name!r}", timeout_s, partial(opened, position))
        except SourceRefused as refused:
            raise self._judged(refused, position) from refused
        return MongoReader(intake, position, partial(self._reopened_raw, watch))

    def next_invalidate(
        self, stream: StreamSettings, position: Position, *, timeout_s: float
    ) -> Change | None:
        """The invalidate, by a pipeline of our own that lets nothing else through."""
        watch = partial(self._watch, stream, list(ONLY_INVALIDATES), batch_size=None)
        return self._do("looking for an invalidate", timeout_s, partial(_first, watch, position))

    def close(self) -> None:
        """Close the connections. For tools and tests: a Lambda container keeps them."""
        self._clients.close()

    def _opened(
        self, watch: Callable[..., Stream], position: Position, client: Client, *, is_raw: bool
    ) -> Intake:
        """An intake at `position`: of raw documents where asked for, or where one is damaged."""
        arrivals = self._clients.arrivals
        arrivals.take()
        if not is_raw:
            with contextlib.suppress(InvalidBSON):
                return DirectIntake(watch(position, client), arrivals)
        raw = self._clients.get_raw()
        return RawIntake(watch(position, raw), arrivals, client.codec_options)

    def _judged(self, refused: SourceRefused, position: Position) -> TidemarkError:
        """Amazon DocumentDB calls a token that left its history a parse error."""
        _, server = self._probed or (None, None)
        token = position.resume_token
        if refused.code != FAILED_TO_PARSE or server is None or token is None:
            return refused
        is_lost = server.calls_lost_history_a_parse_error(token)
        return HistoryLost(str(refused), refused.code) if is_lost else refused

    def _reopened_raw(self, watch: Callable[..., Stream], position: Position) -> Intake:
        return self._opened(watch, position, self._clients.get(), is_raw=True)

    def _watch(
        self,
        stream: StreamSettings,
        pipeline: list[dict[str, Any]],
        position: Position,
        client: Client,
        *,
        batch_size: int | None,
    ) -> Stream:
        server = self.capabilities(self._clients.get())
        require(server, stream)
        token_option = "start_after" if server.start_after else "resume_after"
        opened: Stream = _target(client, stream).watch(
            pipeline,
            full_document=stream.full_document,
            full_document_before_change=stream.full_document_before_change,
            show_expanded_events=stream.show_expanded_events or None,
            max_await_time_ms=self._max_await_ms,
            batch_size=batch_size,
            **{token_option: position.resume_token},
            start_at_operation_time=position.operation_time,
        )
        return opened

    def _do(self, doing: str, timeout_s: float, work: Callable[[Client], T]) -> T:
        """Work with the client; again with a new one where the old was closed or refused."""
        until_s = time.monotonic() + timeout_s
        client = self._clients.get()
        try:
            return _worked(doing, timeout_s, work, client)
        except (AuthenticationFailed, ClientClosed):
            self._clients.forget(client)
        left_s = max(LEAST_S, until_s - time.monotonic())
        return _worked(doing, left_s, work, self._clients.get())


def _worked(doing: str, timeout_s: float, work: Callable[[Client], T], client: Client) -> T:
    with translated(doing, opening=True), pymongo.timeout(timeout_s):
        _wait_for_server(client)
        return work(client)


def _wait_for_server(client: Client) -> None:
    """Wait as long as the connection string allows, which is no request once a server is known.

    Inside `pymongo.timeout` the driver leaves `serverSelectionTimeoutMS` out of account: without
    this an unreachable host would cost every run its whole budget.
    """
    with pymongo.timeout(client.options.server_selection_timeout):
        _ = client.is_mongos


def _target(client: Client, stream: StreamSettings) -> Any:
    """What is watched: a collection, a database or the whole deployment."""
    if stream.database is None:
        return client
    database = client[stream.database]
    return database if stream.collection is None else database[stream.collection]


def _probe(client: Client) -> Capabilities:
    hosts = [host for host, _ in client.nodes]
    return judge_hello(client.admin.command("hello"), client.server_info(), hosts)


def _ping(client: Client) -> Any:
    return client.admin.command("ping")


def _first_entry(client: Client) -> Any:
    oplog = client["local"]["oplog.rs"]
    return next(iter(oplog.find({}, {"ts": 1}).sort("$natural", 1).limit(1)), None)


def _first(watch: Callable[..., Stream], position: Position, client: Client) -> Change | None:
    """The first change behind `position`, however long the server scans for it."""
    with watch(position, client) as stream:
        while stream.alive:
            change: Change | None = stream.try_next()
            if change is not None:
                return change
    return None
