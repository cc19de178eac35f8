"""The driver's options: our defaults, the connection string's own, and TLS that is not given up."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import quote

import pytest
from bson.codec_options import DatetimeConversion

from tidemark.errors import ConfigError
from tidemark.mongodb.client import Clients, client_options, is_local
from tidemark.settings import Settings, StreamSettings

REMOTE = "mongodb://user:canary@db.example.com"
LOCAL = "mongodb://127.0.0.1:27017"
STREAMS = tuple(StreamSettings(name=name) for name in ("orders", "users", "carts"))


def options(uri: str, **given: Any) -> dict[str, Any]:
    return client_options(uri, Settings(table="table", uri=uri, streams=STREAMS, **given))


def client_of(uri: str, **given: Any) -> Any:
    """The driver's own view of a client that never connects."""
    settings = Settings(table="table", uri=uri, streams=STREAMS, **given)
    clients = Clients(settings, lambda: uri + ("&" if "?" in uri else "/?") + "connect=false")
    made = clients.get()
    clients.close()
    return made.options


def refused(uri: str, **given: Any) -> str:
    with pytest.raises(ConfigError) as mistake:
        options(uri, **given)
    return str(mistake.value)


# ------------------------------------------------------------------------------- our defaults


def test_the_defaults_bound_the_pool_and_every_wait() -> None:
    """One connection waits for each stream's changes, and one more does the rest."""
    assert options(REMOTE) == {
        "appname": "tidemark",
        "maxPoolSize": len(STREAMS) + 1,
        "serverSelectionTimeoutMS": 5_000,
        "connectTimeoutMS": 3_000,
        "datetime_conversion": DatetimeConversion.DATETIME_AUTO,
        "tls": True,
    }


@pytest.mark.parametrize(
    ("option", "default"),
    [
        ("appName=mine", "appname"),
        ("maxPoolSize=50", "maxPoolSize"),
        ("serverSelectionTimeoutMS=700", "serverSelectionTimeoutMS"),
        ("serverselectiontimeoutms=700", "serverSelectionTimeoutMS"),
        ("connectTimeoutMS=900", "connectTimeoutMS"),
        (f"tlsCAFile={quote(__file__, safe='')}", "tlsCAFile"),
    ],
)
def test_the_connection_strings_own_options_win(option: str, default: str) -> None:
    assert default in options(REMOTE, ca_file="/opt/ca.pem")
    assert default not in options(f"{REMOTE}/?{option}", ca_file="/opt/ca.pem")
    assert default not in options(f"{REMOTE}/shop?retryReads=true&{option}", ca_file="/opt/ca.pem")


def test_the_driver_takes_both() -> None:
    made = client_of(f"{LOCAL}/?maxPoolSize=50&retryReads=false&appName=mine")
    assert made.pool_options.max_pool_size == 50
    assert made.pool_options.appname == "mine"
    assert made.retry_reads is False
    assert made.server_selection_timeout == 5.0
    assert made.pool_options.connect_timeout == 3.0
    assert client_of(LOCAL).pool_options.max_pool_size == len(STREAMS) + 1


# --------------------------------------------------------------------------------------- TLS


@pytest.mark.parametrize("option", ["tls=false", "ssl=false", "TLS=false"])
@pytest.mark.parametrize("scheme", ["mongodb://", "mongodb+srv://"])
def test_tls_is_not_given_up_to_a_host_that_is_not_local(option: str, scheme: str) -> None:
    """G8: and the value of the secret is not shown."""
    said = refused(f"{scheme}user:canary@db.example.com/?{option}")
    assert f"its option {option.partition('=')[0].lower()} gives up TLS" in said
    assert "MONGODB_TLS=off" in said
    assert "canary" not in said
    assert "example" not in said


@pytest.mark.parametrize(
    "option", ["tlsInsecure", "tlsAllowInvalidCertificates", "tlsAllowInvalidHostnames"]
)
def test_a_check_of_the_server_is_not_given_up(option: str) -> None:
    assert f"its option {option.lower()} gives up TLS" in refused(
        f"{REMOTE}/?tls=true&{option}=true"
    )
    assert options(f"{REMOTE}/?{option}=false")["tls"] is True


@pytest.mark.parametrize("option", ["appName=mine", "tls=true", "ssl=true"])
def test_the_driver_is_told_of_tls_in_so_many_words(option: str) -> None:
    assert client_of(f"{REMOTE}/?{option}").pool_options._ssl_context is not None


def test_every_weak_option_is_named_at_once() -> None:
    """G9."""
    said = refused(f"{REMOTE}/?tls=false;tlsInsecure=true")
    assert "2 problems" in said


def test_tls_is_waived_by_its_variable_alone() -> None:
    assert "tls" not in options(f"{REMOTE}/?tls=false", tls="off")


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://localhost",
        "mongodb://LOCALHOST:27018/shop",
        "mongodb://127.0.0.1:27017/?tls=false",
        "mongodb://127.1.2.3,localhost:1,[::1]:27017",
        "mongodb://user:p%40ss@localhost:27017/shop?replicaSet=rs0",
        "mongodb://%2Ftmp%2Fmongodb-27017.sock",
        "mongodb://user:pass@%2Ftmp%2Fmongodb-27017.sock,localhost/shop",
    ],
)
def test_a_local_host_needs_no_tls(uri: str) -> None:
    assert is_local(uri)
    assert "tls" not in options(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb+srv://localhost",
        "mongodb://localhost,db.example.com",
        "mongodb://localhost.example.com",
        "mongodb://127.0.0.1.example.com",
        "mongodb://localhost@db.example.com",
        "mongodb://localhost%40x:pass@db.example.com",
        "mongodb://user:pass@db.example.com/localhost",
        "mongodb://[::2]:27017",
        "mongodb://10.0.0.5:27017",
        "mongodb://db.example.SOCK",
        "mongodb://db.example.com?appName=localhost",
        "mongodb://",
    ],
)
def test_every_other_host_is_remote(uri: str) -> None:
    assert not is_local(uri)
    assert options(uri)["tls"] is True


def test_a_local_server_with_a_named_authority_is_met_with_tls() -> None:
    """The driver takes an authority for a wish for TLS."""
    assert options(LOCAL, ca_file="/opt/ca.pem")["tlsCAFile"] == "/opt/ca.pem"


# ------------------------------------------------------------------------- what cannot be used


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("mongodb://user:canary@db/?tls=true&tlsCertificateKeyFile=/no/such", "a file that cannot"),
        ("mongodb://user:canary@db/?maxPoolSize=canary", "its option maxPoolSize is none that"),
        ("mongodb://user:canary@db/?tls=TRUE", "its option tls is none that"),
        ("mongodb://user:canary@db/?tls=no", "its option tls is none that"),
        ("mongodb://user:canary@db/?maxpoolsise=3", "its option maxpoolsise is none that"),
        ("mongodb://user:can?ary-canary@db/?authSource=admin", "one of its options is none that"),
        ("mongodb://user:canary@db/?retryReads", "its option retryReads is none that"),
        ("mongodb://user:canary:x@db", "no valid connection string"),
        ("mongodb://us/er:canary@db", "no valid connection string"),
        ("mongodb://user:canary@db:port", "no valid connection string"),
        ("mongodb://user:canary@db/?tls=true&ssl=false", "gives up TLS"),
        ("mongodb://user:canary@db/?authMechanism=NONE", "its option authMechanism is none"),
    ],
)
def test_an_unusable_connection_string_is_refused_without_its_value(uri: str, words: str) -> None:
    """G8: not even in what the error was raised from."""
    with pytest.raises(ConfigError, match=words) as mistake:
        client_of(uri)
    assert mistake.value.__cause__ is None
    assert mistake.value.__context__ is None
    assert "canary" not in str(mistake.value)


def test_the_functions_role_is_an_identity() -> None:
    uri = "mongodb+srv://db.example.com/?authSource=%24external&authMechanism=MONGODB-AWS"
    assert options(uri)["tls"] is True


def test_the_functions_role_needs_its_signer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymongo_auth_aws", None)
    said = refused(f"{REMOTE}/?authMechanism=MONGODB-AWS")
    assert "MONGODB-AWS needs pymongo-auth-aws" in said
    assert "layers/tidemark/requirements.in" in said
