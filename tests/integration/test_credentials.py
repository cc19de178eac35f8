"""Who the function is to MongoDB: a password by a secret that rotates, or its role."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import boto3
import bson
import pytest
from pymongo import MongoClient

import mongodb
import service
from container import Function
from servers import wire
from tidemark import aws
from tidemark.errors import SourceRefused
from tidemark.invocation import StreamsFailed
from tidemark.mongodb.source import MongoSource
from tidemark.settings import StreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from container import Container
    from tidemark.settings import Settings

ROLES = ["readWriteAnyDatabase"]
ORDERS = StreamSettings(name="orders", database="shop", collection="orders", idle_s=0.02)


# -------------------------------------------------------------------------- a server with users


@dataclass(frozen=True)
class Guarded:
    """A server that asks for a user, and its administrator."""

    address: str
    admin: MongoClient[dict[str, Any]]

    def new_user(self, password: str) -> str:
        """A user of its own for a test."""
        name = f"user_{uuid.uuid4().hex[:8]}"
        self.admin.admin.command("createUser", name, pwd=password, roles=ROLES)
        return name

    def uri(self, user: str, password: str) -> str:
        """SCRAM-SHA-256, as Atlas and a self-hosted server have it by default."""
        options = "directConnection=true&authSource=admin&authMechanism=SCRAM-SHA-256"
        return f"mongodb://{user}:{password}@{self.address}/?{options}"

    def rotate(self, user: str, password: str) -> None:
        """Change the password and end the connections that still have the old one."""
        self.admin.admin.command("updateUser", user, pwd=password)
        self.admin.admin.command(
            "configureFailPoint",
            "failCommand",
            mode={"times": 1},
            data={"failCommands": ["aggregate"], "closeConnection": True},
        )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    storage = tmp_path_factory.mktemp("guarded")
    with (
        mongodb.serve(mongodb.Options(storage=storage)) as server,
        MongoClient[dict[str, Any]](server.uri) as client,
    ):
        client.admin.command("createUser", "admin", pwd="admin", roles=["root"])
    with (
        mongodb.serve(mongodb.Options(storage=storage, auth=True)) as server,
        MongoClient[dict[str, Any]](server.uri, username="admin", password="admin") as client,
    ):
        yield Guarded(f"{server.host}:{server.port}", client)


# ---------------------------------------------------------------------- where the secret is kept


@dataclass
class Kept:
    """The value of one secret, and how often it was fetched."""

    where: dict[str, Any]
    put: Callable[[str], object]
    fetched: list[str] = field(default_factory=list)

    def settings(self, table: str) -> Settings:
        """A container's settings that name the secret and hold nothing of it."""
        return replace(service.settings_of("", table, ORDERS), uri=None, **self.where)

    def container(self, table: str) -> service.Service:
        """A container whose connection string is the secret's."""
        settings = self.settings(table)
        return service.service(settings, connection_string=aws.connection_string(settings))

    def counted(self, client: Any, operation: str) -> Kept:
        """Count the requests of `operation`."""

        def count(request: Any, **_: Any) -> None:
            asked = json.loads(request.body)
            if asked.get("SecretId", asked.get("Name")) in self.where.values():
                self.fetched.append(operation)

        client.meta.events.register(f"before-send.*.{operation}", count)
        return self


def in_secrets_manager(name: str) -> Kept:
    writer = boto3.client("secretsmanager")
    writer.create_secret(Name=name, SecretString="not yet")
    kept = Kept(
        {"secret_id": name}, lambda v: writer.put_secret_value(SecretId=name, SecretString=v)
    )
    return kept.counted(aws.client("secretsmanager"), "GetSecretValue")


def in_parameter_store(name: str) -> Kept:
    writer = boto3.client("ssm")

    def put(value: str) -> None:
        writer.put_parameter(Name=f"/{name}", Value=value, Type="SecureString", Overwrite=True)

    return Kept({"parameter": f"/{name}"}, put).counted(aws.client("ssm"), "GetParameter")


@pytest.fixture(params=[in_secrets_manager, in_parameter_store], ids=["secret", "parameter"])
def kept(request: pytest.FixtureRequest, aws_endpoint: str) -> Kept:
    assert aws_endpoint
    made: Kept = request.param(f"tidemark/{uuid.uuid4().hex}")
    return made


@pytest.fixture
def ended() -> Iterator[Callable[[service.Service], service.Service]]:
    """Closes a container's connections after the test."""
    made: list[service.Service] = []

    def remember(container: service.Service) -> service.Service:
        made.append(container)
        return container

    yield remember
    for container in made:
        container.source.close()


def test_a_container_signs_in_with_its_secret_and_fetches_it_once(
    guarded: Guarded, kept: Kept, table: str, ended: Callable[..., service.Service]
) -> None:
    """G1: and reads what is written."""
    kept.put(json.dumps({"uri": guarded.uri(guarded.new_user("right"), "right")}))
    container = ended(kept.container(table))
    container.run()
    guarded.admin.shop.orders.insert_one({"_id": uuid.uuid4().hex})
    assert container.run()["orders"]["changes"] == 1
    assert len(kept.fetched) == 1


def test_a_wrong_password_is_told_in_words_and_shown_nowhere(
    guarded: Guarded, kept: Kept, table: str, ended: Callable[..., service.Service]
) -> None:
    """G8: it is asked for once more, for it may have been rotated, and no more."""
    user = guarded.new_user("right")
    kept.put(guarded.uri(user, "canary"))
    container = ended(kept.container(table))
    with pytest.raises(StreamsFailed) as failed:
        container.run()
    said = str(failed.value)
    assert "code 18" in said
    assert "check the user, the password and authSource in the secret" in said
    for text in (said, container.log.getvalue()):
        assert "canary" not in text
        assert user not in text
    assert (failed.value.__cause__, failed.value.__context__) == (None, None)
    assert len(kept.fetched) == 2


def test_a_rotated_secret_is_fetched_again_once_and_the_stream_goes_on(
    guarded: Guarded, kept: Kept, table: str, ended: Callable[..., service.Service]
) -> None:
    """G1: in the very run that finds the old password refused."""
    user = guarded.new_user("old")
    kept.put(guarded.uri(user, "old"))
    container = ended(kept.container(table))
    container.run()
    guarded.admin.shop.orders.insert_one({"_id": uuid.uuid4().hex})
    kept.put(guarded.uri(user, "new"))
    guarded.rotate(user, "new")
    assert container.run()["orders"]["changes"] == 1
    assert len(kept.fetched) == 2
    assert len(container.named("source.connected")) == 2


def test_a_secret_rotated_to_something_else_is_refused_each_run_and_not_looped_over(
    guarded: Guarded, kept: Kept, table: str, ended: Callable[..., service.Service]
) -> None:
    """G8: whatever it holds is not shown."""
    user = guarded.new_user("old")
    kept.put(guarded.uri(user, "old"))
    container = ended(kept.container(table))
    container.run()
    kept.put('{"canary": "of another application"}')
    guarded.rotate(user, "new")
    for fetches in (2, 3):
        with pytest.raises(StreamsFailed, match=r"ConfigError: .* is no connection string") as said:
            container.run()
        assert "canary" not in str(said.value)
        assert len(kept.fetched) == fetches
    kept.put(guarded.uri(user, "new"))
    assert container.run()["orders"]["stop_reason"] == "caught_up"


@pytest.mark.parametrize(
    ("where", "variable"),
    [({"secret_id": "no/such"}, "MONGODB_SECRET_ID"), ({"parameter": "/no"}, "MONGODB_PARAMETER")],
)
@pytest.mark.usefixtures("aws_endpoint")
def test_a_secret_that_does_not_exist_is_named_by_its_variable(
    where: dict[str, str], variable: str, table: str
) -> None:
    container = Kept(where, print).container(table)
    with pytest.raises(StreamsFailed, match=f"{variable}: it does not exist in this region"):
        container.run()


# ------------------------------------------------------------------------------- in a container


def test_lambda_is_shown_no_secret_even_with_every_logger_wide_awake(
    guarded: Guarded,
    function_environment: dict[str, str],
    container: Callable[..., Container],
    tmp_path: Path,
) -> None:
    """G8: neither in a failed invocation's answer, its log and its stack, nor in the SDKs' own."""
    user = guarded.new_user("right-canary")
    kept = in_secrets_manager(f"tidemark/{uuid.uuid4().hex}")
    kept.put(guarded.uri(user, "wrong-canary"))
    streams = tmp_path / "streams.toml"
    streams.write_text(
        '[[stream]]\nname = "orders"\ndatabase = "shop"\non_failure = "halt"\n', encoding="utf-8"
    )
    environment = function_environment | {
        "MONGODB_URI": "",
        "MONGODB_SECRET_ID": kept.where["secret_id"],
        "TIDEMARK_STREAMS": str(streams),
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "DEBUG",
        "MONGOB_LOG_MAX_DOCUMENT_LENGTH": "100000",  # or the driver's own log is cut short
    }
    started = container(Function(environment=environment, timeout_s=20))
    failed = started.invoke({})
    assert "code 18" in (failed.error or failed.body)
    kept.put(guarded.uri(user, "right-canary"))
    started.invoke({})
    guarded.admin.shop.orders.insert_one({"_id": uuid.uuid4().hex, "card": "canary"})
    assert started.invoke({}).result["streams"]["orders"]["changes"] == 1
    log = started.read_log()
    assert '"level":"DEBUG"' in log.replace(" ", "")
    assert "canary" not in failed.body + log
    assert user not in failed.body + log


# ------------------------------------------------------------------------- by the function's role

ROLE = {
    "AWS_ACCESS_KEY_ID": "ASIAOFTHEROLE",
    "AWS_SECRET_ACCESS_KEY": "canary-of-the-role",
    "AWS_SESSION_TOKEN": "session-of-the-role",
}
HELLO = {
    "ok": 1,
    "isWritablePrimary": True,
    "setName": "rs0",
    "hosts": ["127.0.0.1"],
    "maxWireVersion": 21,
    "maxBsonObjectSize": 1 << 24,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "operationTime": bson.Timestamp(1, 1),
}


@dataclass
class Atlas:
    """As much of a server as MONGODB-AWS needs. Source: the driver specification "Auth"."""

    received: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Answer on a port of its own for the length of the block."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
            options = "directConnection=true&authSource=%24external&authMechanism=MONGODB-AWS"
            yield f"mongodb://127.0.0.1:{listening.getsockname()[1]}/?{options}"
            listening.shutdown(socket.SHUT_RDWR)

    def payloads(self) -> list[dict[str, Any]]:
        """What was sent of the exchange, its start first."""
        steps = [each for each in self.received if {"saslStart", "saslContinue"} & each.keys()]
        return [bson.decode(step["payload"]) for step in steps]

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            while (request := wire.receive(connection)) is not None:
                self.received.append(request.command)
                wire.send(connection, request, bson.encode(self._answer(request.command)))

    def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if "saslStart" in command:
            nonce = bson.decode(command["payload"])["r"] + bytes(32)
            payload = bson.encode({"s": nonce, "h": "sts.eu-west-1.amazonaws.com"})
            return {"ok": 1, "conversationId": 1, "done": False, "payload": payload}
        if "saslContinue" in command:
            return {"ok": 1, "conversationId": 1, "done": True, "payload": b""}
        return HELLO


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that Lambda gives a function with a role."""
    for name, value in ROLE.items():
        monkeypatch.setenv(name, value)


@contextmanager
def as_role(uri: str) -> Iterator[MongoSource]:
    source = MongoSource(service.settings_of(uri, "table", ORDERS, tls="required"), lambda: uri)
    try:
        yield source
    finally:
        source.close()


@pytest.mark.usefixtures("role")
def test_the_functions_role_signs_in_without_a_password(caplog: pytest.LogCaptureFixture) -> None:
    """G8: the role's key signs; it is neither sent nor logged."""
    caplog.set_level("DEBUG")
    atlas = Atlas()
    with atlas.serve() as uri, as_role(uri) as source:
        assert source.now(timeout_s=5).operation_time == bson.Timestamp(1, 2)
    [started] = [each for each in atlas.received if "saslStart" in each]
    assert (started["mechanism"], started["$db"]) == ("MONGODB-AWS", "$external")
    begun, signed = atlas.payloads()
    assert set(begun) == {"r", "p"}
    assert "Credential=ASIAOFTHEROLE/" in signed["a"]
    assert "/eu-west-1/sts/aws4_request" in signed["a"]
    assert signed["t"] == ROLE["AWS_SESSION_TOKEN"]
    assert "canary" not in str(atlas.received) + caplog.text
    assert ROLE["AWS_SESSION_TOKEN"] not in caplog.text


def test_without_a_role_the_refusal_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/no/such")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/no/such")
    with (
        Atlas().serve() as uri,
        as_role(uri) as source,
        pytest.raises(SourceRefused, match=r"for MONGODB-AWS, the function's role"),
    ):
        source.now(timeout_s=5)
