"""A `MongoSource` for a test, closed after it."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pymongo.uri_parser
import pytest

from service import settings_of
from tcp_proxy import Proxy
from tidemark.mongodb.source import MongoSource
from tidemark.settings import StreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database


@pytest.fixture
def orders(database: Database[dict[str, Any]]) -> Callable[..., StreamSettings]:
    """Makes the stream "orders" on the test's own database, changed by keywords."""

    def make(**given: Any) -> StreamSettings:
        own: dict[str, Any] = {"name": "orders", "database": database.name, "collection": "orders"}
        return StreamSettings(**(own | given))

    return make


@pytest.fixture
def proxy(mongodb_uri: str) -> Iterator[Proxy]:
    """A proxy before the session's MongoDB."""
    [(host, port)] = pymongo.uri_parser.parse_uri(mongodb_uri)["nodelist"]
    with Proxy((host, port)) as running:
        yield running


@pytest.fixture
def connect(mongodb_uri: str, proxy: Proxy) -> Iterator[Callable[..., MongoSource]]:
    """Makes a source: `connect(uri)`, or `connect(lambda: uri)`; by default the session's."""
    with ExitStack() as stack:

        def make(uri: str | Callable[[], str] = mongodb_uri, **given: Any) -> MongoSource:
            fetch = uri if callable(uri) else lambda: uri
            settings = settings_of("", "no-table", **given)
            return stack.enter_context(closing(MongoSource(settings, fetch)))

        yield make
        proxy.go()
