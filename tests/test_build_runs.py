"""The built artifact as Lambda runs it: function and layer alone, under the runtime emulator."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from container import Container, Function
from test_build import Project

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

STREAMS = '[[stream]]\nname = "orders"\ndatabase = "{database}"\n'


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The sources, built for this Python, which on CI is Lambda's among others."""
    project = Project(tmp_path_factory.mktemp("artifact"))
    project.build(python="{}.{}".format(*sys.version_info))
    return project


def test_the_artifact_delivers_a_change_with_nothing_of_ours_beside_it(
    artifact: Project,
    database: Database[dict[str, Any]],
    function_environment: dict[str, str],
    container: Callable[[Function], Container],
) -> None:
    """boto3 is the runtime's, as on Lambda; everything else has to be in the artifact."""
    (artifact.function / "streams.toml").write_text(STREAMS.format(database=database.name))
    path = f"{artifact.function}:{artifact.layer}/python"
    function = Function(
        handler=artifact.function,
        environment=function_environment
        | {"PYTHONPATH": path, "TIDEMARK_DEAD_LETTER_QUEUE_URL": queue_url()},
    )
    started = container(function)
    started.invoke({})
    database.orders.insert_one({"_id": "first"})
    answer = started.invoke({})
    assert answer.result["streams"]["orders"]["changes"] == 1
    assert "insert {'_id': 'first'}" in answer.log


def queue_url() -> str:
    """A dead-letter queue, which the default policy asks for."""
    return boto3.client("sqs").create_queue(QueueName="dead-letters")["QueueUrl"]
