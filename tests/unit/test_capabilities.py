"""What a deployment can do, judged from its answers and against what a stream asks for."""

from __future__ import annotations

from typing import Any

import pytest

from tidemark.errors import SourceRefused
from tidemark.mongodb.capabilities import STANDALONE, Capabilities, judge_hello, require
from tidemark.settings import StreamSettings

CLUSTER_TIME = {"$clusterTime": {"clusterTime": None}}
REPLICA_SET = {"setName": "rs0", **CLUSTER_TIME}
MONGOS = {"msg": "isdbgrid", **CLUSTER_TIME}
BUILD = {"gitVersion": "25225db95574916fecab3af75b184409f8713aef"}
ATLAS = ["shop-shard-00-00.abcde.mongodb.net"]
DOCUMENTDB = ["shop.cluster-abc.eu-west-1.docdb.amazonaws.com"]
ELASTIC = ["shop-123.eu-west-1.docdb-elastic.amazonaws.com"]
CHINA = ["shop.cluster-abc.docdb.cn-north-1.amazonaws.com.cn"]


def judged(
    version: list[int],
    hosts: list[str] = ATLAS,
    hello: dict[str, Any] = REPLICA_SET,
    build: dict[str, Any] = BUILD,
) -> Capabilities:
    return judge_hello(hello, {"versionArray": version, **build}, hosts)


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


@pytest.mark.parametrize("hosts", [DOCUMENTDB, ELASTIC, CHINA, [*ATLAS, *DOCUMENTDB]])
@pytest.mark.parametrize("build", [{}, BUILD])
def test_amazons_own_names_are_documentdbs_and_it_lacks_what_its_version_promises(
    hosts: list[str], build: dict[str, Any]
) -> None:
    server = judged([5, 0, 0, 0], hosts, build=build)
    assert server.product == "Amazon DocumentDB"
    assert (server.start_after, server.images, server.split_events) == (False, False, False)
    assert not server.has_oplog


@pytest.mark.parametrize(
    "host", ["docdb.amazonaws.com.example.net", "localhost", "docdb", "10.0.0.1", "shop.internal"]
)
def test_any_other_name_tells_nothing(host: str) -> None:
    """A tunnel, a CNAME, a VPC endpoint: what answers decides."""
    assert judged([5, 0, 0], [host]).product == "MongoDB"
    assert judged([5, 0, 0], [host], build={}).product == "MongoDB-compatible"
    assert judged([5, 0, 0], [host], hello={"setName": "rs0"}).product == "MongoDB-compatible"


@pytest.mark.parametrize(
    ("hello", "build", "product"),
    [
        ({}, {"ferretdb": {"version": "2.7.0"}, **BUILD}, "FerretDB"),
        ({"internal": {"documentdb_versions": ["0.109-0"]}}, BUILD, "DocumentDB"),
        ({"internal": {"cosmos_versions": ["1.0"]}}, BUILD, "DocumentDB"),
        ({}, {"psmdbVersion": "7.0.2-1", **BUILD}, "MongoDB"),
        (MONGOS, BUILD, "MongoDB"),
    ],
)
def test_a_product_is_known_by_what_it_answers(
    hello: dict[str, Any], build: dict[str, Any], product: str
) -> None:
    """Whatever version it claims, and wherever it is."""
    assert judged([7, 0, 0], ATLAS, REPLICA_SET | hello, build).product == product


def test_of_what_is_not_known_the_server_is_asked() -> None:
    """No feature of MongoDB's is promised or denied to another product by its version."""
    server = judged([8, 0, 0], ["tunnel"], build={})
    assert (server.start_after, server.images, server.split_events) == (False, None, None)
    require(server, stream(split_large_events=True, full_document="required"))
    assert judged([8, 0, 0], DOCUMENTDB).images is None
    assert judged([8, 0, 0], DOCUMENTDB).split_events is False


@pytest.mark.parametrize(
    ("server", "has"),
    [
        (judged([7, 0, 0]), True),
        (judged([4, 0, 0]), False),
        (judged([5, 0, 0], DOCUMENTDB), False),
        (judged([8, 0, 0], DOCUMENTDB), False),
        (judged([5, 0, 0], ["tunnel"], build={}), False),
    ],
)
def test_start_after_is_used_where_it_is_known(server: Capabilities, has: bool) -> None:
    """G1: `resumeAfter` is what every server has, and a refused option is not tried again."""
    assert server.start_after is has
    assert not server.without_start_after().start_after


@pytest.mark.parametrize(
    ("server", "token", "is_lost"),
    [
        (judged([5, 0, 0], DOCUMENTDB), "00", True),
        (judged([5, 0, 0], ["tunnel"], build={}), "0163", True),
        (judged([5, 0, 0], ["tunnel"], build={}), "8263", False),
        (judged([7, 0, 0]), "8263", False),
    ],
)
def test_documentdbs_tokens_tell_what_its_parse_errors_mean(
    server: Capabilities, token: str, is_lost: bool
) -> None:
    """G7: through a tunnel as well."""
    assert server.calls_lost_history_a_parse_error({"_data": token}) is is_lost


def test_a_token_may_have_any_form() -> None:
    assert not judged([7, 0, 0]).calls_lost_history_a_parse_error({})
    assert not judged([7, 0, 0]).calls_lost_history_a_parse_error({"_data": b"01"})


@pytest.mark.parametrize(
    ("server", "set_name", "is_sharded", "has_oplog"),
    [
        (judged([7, 0, 0]), "rs0", False, True),
        (judged([7, 0, 0], hello=MONGOS), None, True, False),
        (judged([7, 0, 0], hello={}), None, False, False),
        (judged([5, 0, 0], DOCUMENTDB), "rs0", False, False),
        (judged([5, 0, 0], ["tunnel"], build={}), "rs0", False, True),
    ],
)
def test_a_deployment_is_told_by_its_set_and_its_oplog(
    server: Capabilities, set_name: str | None, is_sharded: bool, has_oplog: bool
) -> None:
    assert (server.set_name, server.is_sharded) == (set_name, is_sharded)
    assert server.has_oplog is has_oplog


def test_what_has_no_change_streams_is_not_called_a_standalone() -> None:
    with pytest.raises(SourceRefused, match="FerretDB has no change streams"):
        require(judged([7, 0, 0], hello={}, build={"ferretdb": {}}), stream())


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
        "is_sharded": False,
        "set_name": "rs0",
        "start_after": True,
        "split_events": False,
        "images": True,
        "has_oplog": True,
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
