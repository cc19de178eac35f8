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
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError
from pymongo.message import _CursorAddress

from tidemark.errors import (
    HistoryLost,
    HostNotFound,
    OpeningTimedOut,
    SourceRefused,
    SourceUnreachable,
    TidemarkError,
)
from tidemark.model import Change, Deployment, OplogWindow, Position
from tidemark.mongodb.answer_size import AnswerSize
from tidemark.mongodb.capabilities import (
    NEEDS_REPLICA_SET,
    NO_EARLIEST,
    OPLOG_REFUSED,
    OPTION_REFUSED,
    STANDALONE,
    Capabilities,
    judge_hello,
    require,
)
from tidemark.mongodb.client import Client, Clients
from tidemark.mongodb.errors import AuthenticationFailed, ClientClosed, translated, translation
from tidemark.mongodb.oplog import Oplog, first_entry
from tidemark.mongodb.raw_intake import RawIntake
from tidemark.mongodb.reader import Answers, DirectIntake, Intake, MongoReader, Stream
from tidemark.mongodb.replies import LeftCursor
from tidemark.mongodb.token_time import time_of
from tidemark.ports import Reader
from tidemark.settings import Settings, StreamSettings

ONLY_INVALIDATES = ({"$match": {"operationType": "invalidate"}},)
SPLIT: dict[str, Any] = {"$changeStreamSplitLargeEvent": {}}
FAILED_TO_PARSE = 9
SELECTING_S = 0.6  # the driver looks for a server in steps of 0.5 s, whatever time it is given
KILL_S = 1.0
FIRST_ANSWER_S = 2.0  # what connections of an earlier invocation have to prove that they live
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
        self._oplog = Oplog()
        self._old: Client | None = None  # of an earlier invocation
        self._is_reached = False  # a server has answered once
        self._probing = threading.Lock()
        self._probed: tuple[Client, Capabilities] | None = None

    def capabilities(self, client: Client) -> Capabilities:
        """What the deployment behind `client` can do; asked once a client."""
        with self._probing:
            if self._probed is None or self._probed[0] is not client:
                self._probed = (client, _probe(client))
                self._on_connected(self._probed[1])
            return self._probed[1]

    def begin_invocation(self) -> None:
        """An invocation begins: nothing that an earlier one has found out of order is so for good.

        The container may have been frozen meanwhile, and its connections cut without a word.
        """
        self._clients.begin_invocation()
        self._old = self._clients.current

    def deployment(self, *, timeout_s: float) -> Deployment:
        """What a position must know of its server; asked once a client."""
        server = self._do("asking what the server is", timeout_s, self.capabilities)
        return Deployment(server.set_name, server.start_after, server.is_sharded)

    def time_of(self, position: Position) -> Timestamp | None:
        """The server's time of a position; see `ports.Source`."""
        if position.operation_time is not None:
            return position.operation_time
        return time_of(position.resume_token or {})

    def oplog_window(self, *, timeout_s: float) -> OplogWindow:
        """The oldest and the newest time of the oplog; see `ports.Source`."""
        return self._oplog.window(
            lambda ask: self._do("looking at the oplog's ends", timeout_s, ask)
        )

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
            return first_entry(client)
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
        """A reader after `position`; see `ports.Source`."""
        pipeline = (*stream.pipeline, SPLIT) if stream.split_large_events else stream.pipeline
        watch = partial(self._watch, stream, list(pipeline))
        is_raw = stream.split_large_events or stream.max_bytes is not None
        opened = partial(self._opened, watch, batch_size)
        try:
            intake = self._do(
                f"opening {stream.name!r}", timeout_s, partial(opened, position, is_raw=is_raw)
            )
        except SourceRefused as refused:
            raise self._judged(refused, position) from refused
        reopened = partial(self._reopened_raw, watch, batch_size)
        return MongoReader(intake, position, reopened, self._kill)

    def next_invalidate(
        self, stream: StreamSettings, position: Position, *, timeout_s: float
    ) -> Change | None:
        """The invalidate, by a pipeline of our own that lets nothing else through."""
        watch = partial(self._watch, stream, list(ONLY_INVALIDATES))
        try:
            return self._do(
                "looking for an invalidate", timeout_s, partial(_first, watch, position)
            )
        finally:
            self._kill_left()

    def close(self) -> None:
        """Close the connections. For tools and tests: a Lambda container keeps them."""
        self._clients.close()

    def _opened(
        self,
        watch: Callable[..., Stream],
        batch_size: int | None,
        position: Position,
        client: Client,
        *,
        is_raw: bool,
    ) -> Intake:
        """An intake at `position`: of raw documents where asked for, or where one is damaged."""
        self._clients.replies.take()
        if not is_raw:
            with contextlib.suppress(InvalidBSON):
                stream = watch(position, client)
                return DirectIntake(stream, self._answers(batch_size))
        stream = watch(position, self._clients.get_raw())
        return RawIntake(stream, self._answers(batch_size), client.codec_options)

    def _answers(self, batch_size: int | None) -> Answers:
        """What is heard of a stream that was opened just now.

        A closing answer's token is the invalidate's own where it has MongoDB's form: what else
        calls itself MongoDB may send another.
        """
        server, replies = self.capabilities(self._clients.get()), self._clients.replies
        size = AnswerSize(await_s=self._max_await_ms / 1000, fixed=batch_size)
        return Answers(
            replies, replies.take(), size, lambda token: server.start_after and bool(time_of(token))
        )

    def _judged(self, refused: SourceRefused, position: Position) -> TidemarkError:
        """Amazon DocumentDB calls a token that left its history a parse error."""
        _, server = self._probed or (None, None)
        token = position.resume_token
        if refused.code != FAILED_TO_PARSE or server is None or token is None:
            return refused
        is_lost = server.calls_lost_history_a_parse_error(token)
        return HistoryLost(str(refused), refused.code) if is_lost else refused

    def _reopened_raw(
        self, watch: Callable[..., Stream], batch_size: int | None, position: Position
    ) -> Intake:
        return self._opened(watch, batch_size, position, self._clients.get(), is_raw=True)

    def _watch(
        self,
        stream: StreamSettings,
        pipeline: list[dict[str, Any]],
        position: Position,
        client: Client,
    ) -> Stream:
        """Open with an empty first batch: the server answers at once, however far it must scan.

        A server that was taken for one with `startAfter` and refuses it is opened without.
        """
        asked = self._clients.get()
        server = self.capabilities(asked)
        require(server, stream)
        options: dict[str, Any] = {
            "full_document": stream.full_document,
            "full_document_before_change": stream.full_document_before_change,
            "show_expanded_events": stream.show_expanded_events or None,
            "max_await_time_ms": self._max_await_ms,
            "batch_size": 0,
        }
        watch: Callable[..., Stream] = partial(_target(client, stream).watch, pipeline, **options)
        token, time = position.resume_token, position.operation_time
        if token is None or not server.start_after:
            return watch(resume_after=token, start_at_operation_time=time)
        try:
            return watch(start_after=token)
        except OperationFailure as refused:
            if refused.code not in OPTION_REFUSED:
                raise
            opened = watch(resume_after=token)
            self._probed = (asked, server.without_start_after())
            return opened

    def _do(self, doing: str, timeout_s: float, work: Callable[[Client], T]) -> T:
        """Work with the client; again with a new one where the old was closed, refused or silent.

        Connections of an earlier invocation may have died while the container was frozen: they
        have `FIRST_ANSWER_S` to answer, so that their silence does not cost the run its budget.
        """
        until_s = time.monotonic() + timeout_s
        client = self._clients.get()
        is_old = client is self._old
        first_s = min(timeout_s / 2, FIRST_ANSWER_S) if is_old else timeout_s
        try:
            return self._worked(doing, first_s, work, client)
        except (AuthenticationFailed, ClientClosed, OpeningTimedOut) as failure:
            left_s = until_s - time.monotonic()
            is_silence = isinstance(failure, OpeningTimedOut)
            if left_s < SELECTING_S or (is_silence and not is_old):
                raise
        self._clients.forget(client)
        return self._worked(doing, left_s, work, self._clients.get())

    def _worked(
        self, doing: str, timeout_s: float, work: Callable[[Client], T], client: Client
    ) -> T:
        with translated(doing, opening=True), pymongo.timeout(timeout_s):
            self._wait_for_server(client, doing, timeout_s)
            return work(client)

    def _wait_for_server(self, client: Client, doing: str, timeout_s: float) -> None:
        """Wait as long as the connection string allows: no request once a server is known.

        Inside `pymongo.timeout` the driver leaves `serverSelectionTimeoutMS` out of account:
        without this an unreachable host would cost every run its whole budget. Raises
        SourceUnreachable where no server has ever answered this container.
        """
        try:
            with pymongo.timeout(min(timeout_s, client.options.server_selection_timeout)):
                _ = client.is_mongos
        except ServerSelectionTimeoutError as error:
            unavailable = translation(error, doing, opening=True)
            if isinstance(unavailable, HostNotFound):
                raise unavailable from error
            if self._is_reached or client.topology_description.known_servers:
                raise
            raise SourceUnreachable(str(unavailable)) from error
        self._is_reached = True

    def _kill_left(self) -> None:
        """End the scans that this thread has left; one that cannot be ended runs to its end."""
        with contextlib.suppress(PyMongoError, TidemarkError), pymongo.timeout(KILL_S):
            for cursor in self._clients.replies.take_left():
                self._kill(cursor)

    def _kill(self, cursor: LeftCursor) -> None:
        """End a cursor whose scan was left behind, on another connection to the same server."""
        address = _CursorAddress(cursor.address, cursor.namespace)
        client = self._clients.get()
        client._kill_cursors([cursor.cursor_id], address, client._get_topology(), None)


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


def _first(watch: Callable[..., Stream], position: Position, client: Client) -> Change | None:
    """The first change behind `position`, however long the server scans for it."""
    with watch(position, client) as stream:
        while stream.alive:
            change: Change | None = stream.try_next()
            if change is not None:
                return change
    return None
