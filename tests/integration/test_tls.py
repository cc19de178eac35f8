"""TLS for real: a private authority, its certificates, and an embedded server that serves them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

import mongodb
from certificates import DAY, Authority
from service import settings_of
from tidemark.errors import SourceRefused, SourceUnavailable
from tidemark.mongodb.source import MongoSource
from tidemark.ports import ReadLimits
from tidemark.settings import StreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from certificates import Certificate
    from tidemark.model import Position

STREAM = StreamSettings(name="orders", database="shop", collection="orders")
BUDGET_S = 60
LIMITS = ReadLimits(max_changes=10)
SHORT = "&serverSelectionTimeoutMS=900&connectTimeoutMS=400"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[str]:
    """A server with a certificate for its address by the private authority."""
    with mongodb.serve(speaking(authority.certificate())) as server:
        yield server.uri + SHORT


def speaking(certificate: Certificate) -> mongodb.Options:
    return mongodb.Options(tls_certificate=certificate.certificate, tls_key=certificate.key)


@contextmanager
def connected(uri: str, **given: Any) -> Iterator[MongoSource]:
    settings = settings_of(uri, "table", STREAM, **given)
    source = MongoSource(settings, lambda: uri)
    try:
        yield source
    finally:
        source.close()


def now(uri: str, **given: Any) -> Position:
    """The server's operation time, which takes a connection."""
    with connected(uri, **given) as source:
        return source.now(timeout_s=BUDGET_S)


def refusal(uri: str, **given: Any) -> str:
    """What an operator reads of a connection that cannot be made."""
    with pytest.raises(SourceUnavailable) as refused:
        now(uri, **given)
    return str(refused.value)


# ----------------------------------------------------------------------- the server's certificate


def test_a_private_authority_named_by_the_ca_file_is_trusted(
    secured: str, authority: Authority
) -> None:
    assert now(secured, tls="required", ca_file=str(authority.file)).operation_time is not None


def test_a_stream_is_read_over_tls(secured: str, authority: Authority) -> None:
    """G1: what is written is read, by the client that verifies the server."""
    uri = secured + f"&tls=true&tlsCAFile={authority.file}"
    with MongoClient[dict[str, Any]](uri) as client, connected(uri) as source:
        start = source.now(timeout_s=5)
        client.shop.orders.insert_one({"_id": 1})
        reader = source.open(STREAM, start, timeout_s=5, batch_size=None)
        [change] = reader.read(LIMITS, timeout_s=5).changes
        reader.close(timeout_s=1)
    assert change["documentKey"] == {"_id": 1}


def test_without_its_authority_a_server_is_not_trusted(secured: str) -> None:
    said = refusal(secured + "&tls=true")
    assert "TLS certificate could not be verified" in said
    assert "in MONGODB_CA_FILE (docs/security.md)" in said


def test_another_authority_is_not_enough(secured: str, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another authority")
    assert "not signed by an authority" in refusal(secured, ca_file=str(other.file))


def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    with mongodb.serve(speaking(authority.certificate(valid_for=-DAY))) as server:
        said = refusal(server.uri + SHORT, ca_file=str(authority.file))
    assert "could not be verified: it has expired: renew it" in said


def test_a_certificate_for_another_host_is_refused(authority: Authority) -> None:
    with mongodb.serve(speaking(authority.certificate("db.example.com"))) as server:
        said = refusal(server.uri + SHORT, ca_file=str(authority.file))
    assert "could not be verified: it is for another host name" in said


def test_a_server_without_tls_is_told_apart_from_one_that_is_down(authority: Authority) -> None:
    with mongodb.serve() as server:
        said = refusal(server.uri + SHORT, ca_file=str(authority.file))
    assert "TLS handshake with the MongoDB server failed" in said
    assert "MONGODB_TLS=off" in said


def test_a_server_that_wants_tls_is_not_met_without(secured: str) -> None:
    said = refusal(secured, tls="off")
    assert "no MongoDB server could be selected" in said
    assert "asks for: TLS (MONGODB_TLS)" in said


def test_an_unreachable_server_costs_what_the_connection_string_allows() -> None:
    """G5: not the run's whole budget, which is what the driver makes of it by itself."""
    began_s = time.monotonic()
    assert "check the host" in refusal("mongodb://127.0.0.1:1/?directConnection=true" + SHORT)
    assert time.monotonic() - began_s < BUDGET_S / 2


# ----------------------------------------------------------------------- the client's certificate


@pytest.fixture(scope="module")
def strict(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that asks each client for a certificate, and each user for proof.

    Its users: the one whom the certificate "reader" names, and "scram" with a password.
    """
    storage = tmp_path_factory.mktemp("strict")
    roles = [{"role": "readWriteAnyDatabase", "db": "admin"}]
    with (
        mongodb.serve(mongodb.Options(storage=storage)) as server,
        MongoClient[dict[str, Any]](server.uri) as client,
    ):
        client["$external"].command(
            "createUser", "CN=reader", roles=roles, mechanisms=["MONGODB-X509"]
        )
        client.admin.command("createUser", "scram", pwd="right", roles=roles)
    options = speaking(authority.certificate())
    options = replace(options, storage=storage, auth=True, tls_client_authority=authority.file)
    with mongodb.serve(options) as server:
        yield f"{server.host}:{server.port}/?directConnection=true{SHORT}"


@pytest.fixture
def by_certificate(authority: Authority) -> Callable[[str], str]:
    """The options of a connection string that presents a certificate for a name."""

    def options(name: str) -> str:
        return f"&tls=true&tlsCertificateKeyFile={authority.certificate(name).both}"

    return options


def test_a_client_certificate_is_the_identity(
    strict: str, authority: Authority, by_certificate: Callable[[str], str]
) -> None:
    """MONGODB-X509: no password anywhere."""
    uri = f"mongodb://{strict}&authMechanism=MONGODB-X509{by_certificate('reader')}"
    assert now(uri, ca_file=str(authority.file)).operation_time is not None


def test_a_client_certificate_goes_with_a_password(
    strict: str, authority: Authority, by_certificate: Callable[[str], str]
) -> None:
    uri = f"mongodb://scram:right@{strict}&authSource=admin{by_certificate('anybody')}"
    assert now(uri, ca_file=str(authority.file)).operation_time is not None


def test_a_certificate_that_names_nobody_is_refused(
    strict: str, authority: Authority, by_certificate: Callable[[str], str]
) -> None:
    uri = f"mongodb://{strict}&authMechanism=MONGODB-X509{by_certificate('stranger')}"
    with (
        connected(uri, ca_file=str(authority.file)) as source,
        pytest.raises(SourceRefused, match=r"code 18.*authentication failed"),
    ):
        source.now(timeout_s=5)


def test_a_client_without_a_certificate_is_turned_away(strict: str, authority: Authority) -> None:
    said = refusal(f"mongodb://scram:right@{strict}&authSource=admin", ca_file=str(authority.file))
    assert "no MongoDB server could be selected" in said
    assert "asks for: TLS (MONGODB_TLS), a client certificate" in said
