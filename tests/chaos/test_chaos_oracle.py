"""The plain `watch()` beside the chaos misses nothing when the server refuses it."""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

import chaos
from chaos_oracle import Oracle
from demo_verdict import Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database

WITHIN_S = 10
REFUSED = {"failCommands": ["getMore"], "errorCode": 11601}  # the driver does not resume by itself


@pytest.fixture
def database(mongodb_uri: str) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        name = f"tidemark_oracle_{uuid.uuid4().hex[:8]}"
        yield client[name]
        client.drop_database(name)


def test_it_goes_on_at_its_token_when_a_read_is_refused(
    database: Database[dict[str, Any]],
) -> None:
    oracle, troubles = Oracle(database), list[str]()
    with chaos.at_work([oracle.run], troubles):
        _await(oracle.begun.is_set)
        database["a"].insert_one({"_id": "1", "version": 1})
        _refuse_one_read(database)
        _await(lambda: oracle.restarts == 1)
        database["a"].update_one({"_id": "1"}, {"$set": {"version": 2}})
        database["a"].delete_one({"_id": "1"})
        _await(lambda: oracle.changes == 3)
    assert oracle.seen["a"] == [
        Write("insert", "1", 1),
        Write("update", "1", 2),
        Write("delete", "1", None),
    ]
    assert not troubles


def _refuse_one_read(database: Database[dict[str, Any]]) -> None:
    try:
        database.client.admin.command(
            "configureFailPoint", "failCommand", mode={"times": 1}, data=REFUSED
        )
    except OperationFailure as error:
        pytest.skip(f"a server without failpoints: {error.code}")


def _await(reached: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + WITHIN_S
    while not reached():
        assert time.monotonic() < give_up_s
        threading.Event().wait(0.01)
