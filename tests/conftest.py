"""The real parts, started when a test first asks for them, once a session.

MONGODB_URI in the environment replaces the embedded MongoDB by a real replica set.
"""

from __future__ import annotations

import os
import platform
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

import aws
import container as containers
import mongodb
from container import Container, Function
from emulator import EmulatorContainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pymongo.database import Database

# What a developer's shell may hold, and what would decide a test's outcome.
STRAY = ("AWS_", "TIDEMARK_", "POWERTOOLS_", "MONGODB_", "_X_AMZN_")
GIVEN_URI = os.environ.get("MONGODB_URI")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """No variable of the developer's reaches a test: MONGODB_URI is read once, above."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(STRAY)]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def mongodb_uri() -> Iterator[str]:
    """A replica set's connection string: the real one's, or an embedded server's."""
    if GIVEN_URI:
        yield GIVEN_URI
        return
    with mongodb.serve() as server:
        yield server.uri


@pytest.fixture(scope="session")
def mongodb_client(mongodb_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """One client for what a test writes and looks up."""
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client


@pytest.fixture
def database(mongodb_client: MongoClient[dict[str, Any]]) -> Iterator[Database[dict[str, Any]]]:
    """A database of the test's own, dropped after it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield mongodb_client[name]
    mongodb_client.drop_database(name)


@pytest.fixture(scope="session")
def aws_server() -> Iterator[aws.Server]:
    """The embedded AWS."""
    with aws.serve() as server:
        yield server


@pytest.fixture
def aws_endpoint(aws_server: aws.Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The embedded AWS's address; for this test's length every AWS SDK in this process uses it."""
    for name, value in aws_server.environment().items():
        monkeypatch.setenv(name, value)
    return aws_server.endpoint


@pytest.fixture
def table(aws_endpoint: str) -> str:
    """The name of an empty state table of the test's own."""
    return aws.create_table(aws_endpoint)


@pytest.fixture
def function_environment(
    mongodb_uri: str, aws_server: aws.Server, aws_endpoint: str, table: str
) -> dict[str, str]:
    """What a function in a container needs to know of the embedded world; a test adds to it."""
    assert aws_endpoint == aws_server.endpoint
    return {
        "MONGODB_URI": mongodb_uri,
        "MONGODB_TLS": "off",
        "TIDEMARK_TABLE": table,
        "POWERTOOLS_SERVICE_NAME": "tidemark",
        "POWERTOOLS_METRICS_NAMESPACE": "Tidemark",
        **aws_server.environment(),
    }


@pytest.fixture
def container() -> Iterator[Callable[..., Container]]:
    """Makes started Lambda containers, under AWS's emulator where it runs; ended after the test.

    `container(Function(handler=folder, environment={…}, timeout_s=3))`
    """
    with ExitStack() as stack:

        def started(function: Function) -> Container:
            made, words = containers.open_container(function)
            assert platform.system() != "Linux" or isinstance(made, EmulatorContainer), words
            return stack.enter_context(made)

        yield started


@pytest.fixture
def handler_folder(tmp_path: Path) -> Callable[[str], Path]:
    """Writes `app.py` with the given source and returns its folder, for a `Function`."""

    def write(source: str) -> Path:
        folder = tmp_path / f"handler_{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        (folder / "app.py").write_text(source, encoding="utf-8")
        return folder

    return write
