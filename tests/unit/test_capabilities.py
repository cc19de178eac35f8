"""What a deployment can do, judged from its answers and against what a stream asks for."""

from __future__ import annotations

from typing import Any

import pytest

from tidemark.errors import SourceRefused
from tidemark.mongodb.capabilities import STANDALONE, Capabilities, judge_hello, require
from tidemark.settings import StreamSettings

REPLICA_SET = {"setName": "rs0"}
ATLAS = ["shop-shard-00-00.abcde.mongodb.net"]
DOCUMENTDB = ["shop.cluster-abc.eu-west-1.docdb.amazonaws.com"]
ELASTIC = ["shop-123.eu-west-1.docdb-elastic.amazonaws.com"]


def judged(
    version: list[int], hosts: list[str] = ATLAS, hello: dict[str, Any] = REPLICA_SET
) -> Capabilities:
    return judge_hello(hello, {"versionArray": version}, hosts)


def stream(**given: Any) -> StreamSettings:
    return StreamSettings(name="orders", **given)


@pytest.mark.parametrize(
    ("version", "start_after", "images", "split"),
    [
        ([4, 0, 28, 0], False, False, False),
        ([4, 2, 0, 0], True, False, False),
        ([5, 0, 31, 0], True, False, False),
        ([6, 0, 8, 0], True, True, False),
        ([6, 0, 9, 0], True, True, True),
        ([6, 3, 2, 0], True, True, False),
        ([7, 0, 0, 0], True, True, True),
        ([8, 2, 1, 0], True, True, True),
    ],
)
def test_a_version_decides_what_mongodb_can_do(
    version: list[int], start_after: bool, images: bool, split: bool
) -> None:
    server = judged(version)
    assert server.product == "MongoDB"
    assert (server.start_after, server.images, server.split_events) == (start_after, images, split)


@pytest.mark.parametrize("hosts", [DOCUMENTDB, ELASTIC, [*ATLAS, *DOCUMENTDB]])
def test_documentdb_is_known_by_its_host_and_lacks_what_its_version_promises(
    hosts: list[str],
) -> None:
    server = judged([8, 0, 0, 0], hosts)
    assert server.product == "Amazon DocumentDB"
    assert (server.start_after, server.images, server.split_events) == (False, False, False)


@pytest.mark.parametrize("host", ["docdb.amazonaws.com.example.net", "localhost", "docdb"])
def test_a_host_that_only_sounds_like_documentdb_is_mongodb(host: str) -> None:
    assert judged([5, 0, 0], [host]).product == "MongoDB"


@pytest.mark.parametrize(
    ("hello", "is_replicated"),
    [({"setName": "rs0"}, True), ({"msg": "isdbgrid"}, True), ({}, False), ({"msg": "x"}, False)],
)
def test_a_replica_set_and_a_mongos_have_change_streams(
    hello: dict[str, Any], is_replicated: bool
) -> None:
    assert judged([7, 0, 0], hello=hello).is_replicated is is_replicated


@pytest.mark.parametrize(
    ("build", "version"),
    [
        ({}, (0, 0, 0)),
        ({"versionArray": [7]}, (7, 0, 0)),
        ({"versionArray": [7, 1, 2, 9]}, (7, 1, 2)),
    ],
)
def test_a_version_is_three_numbers_whatever_the_server_says(
    build: dict[str, Any], version: tuple[int, int, int]
) -> None:
    assert judge_hello(REPLICA_SET, build, ATLAS).version == version


def test_a_log_line_says_what_the_server_is_and_can() -> None:
    assert judged([6, 0, 4, 0]).as_fields() == {
        "product": "MongoDB",
        "version": "6.0.4",
        "is_replicated": True,
        "start_after": True,
        "split_events": False,
        "images": True,
    }


@pytest.mark.parametrize(
    ("asked", "version", "words"),
    [
        ({"split_large_events": True}, [6, 0, 8], "split_large_events, which needs MongoDB 6.0.9"),
        ({"split_large_events": True}, [6, 3, 0], "split_large_events, which needs MongoDB 6.0.9"),
        ({"full_document": "required"}, [5, 0, 0], "pre- and post-images, which needs MongoDB 6.0"),
        ({"full_document": "whenAvailable"}, [5, 0, 0], "pre- and post-images"),
        ({"full_document_before_change": "required"}, [5, 0, 0], "pre- and post-images"),
        ({"full_document_before_change": "whenAvailable"}, [5, 0, 0], "pre- and post-images"),
        (
            {"show_expanded_events": True},
            [5, 0, 0],
            "show_expanded_events, which needs MongoDB 6.0",
        ),
    ],
)
def test_what_a_server_lacks_is_refused_with_both_versions(
    asked: dict[str, Any], version: list[int], words: str
) -> None:
    with pytest.raises(SourceRefused) as refused:
        require(judged(version), stream(**asked))
    said = str(refused.value)
    assert "stream 'orders' asks for" in said
    assert words in said
    assert f"the server is MongoDB {'.'.join(map(str, version))}" in said
    require(judged([7, 0, 0]), stream(**asked))


def test_documentdb_is_named_where_it_lacks_something() -> None:
    with pytest.raises(SourceRefused, match=r"the server is Amazon DocumentDB 5\.0\.0"):
        require(judged([5, 0, 0], DOCUMENTDB), stream(full_document="required"))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"full_document": "updateLookup"},
        {"full_document": "default"},
        {"full_document_before_change": "off"},
    ],
)
def test_what_every_server_has_is_not_refused(asked: dict[str, Any]) -> None:
    require(judged([4, 0, 0]), stream(**asked))
    require(judged([5, 0, 0], DOCUMENTDB), stream(**asked))


def test_a_standalone_is_refused_by_the_servers_own_code() -> None:
    with pytest.raises(SourceRefused, match=r"start mongod with --replSet") as refused:
        require(judged([8, 0, 0], hello={}), stream())
    assert refused.value.code == STANDALONE
