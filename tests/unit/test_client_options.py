"""The driver's options: our defaults, the connection string's own, and TLS that is not given up."""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import Any
from urllib.parse import quote

import dns.message
import dns.rrset
import pymongo
import pytest
from bson.codec_options import DatetimeConversion
from dns import resolver
from pymongo.synchronous import srv_resolver

from tidemark.errors import ConfigError, HostNotFound
from tidemark.mongodb import client
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
        ("mongodb://user:canary:x@db", "unescaped character; write .* percent-encoded"),
        ("mongodb://us/er:canary@db", "an unescaped slash"),
        ("mongodb://a,,canary", "its list of hosts"),
        ("mongodb://user@db", "its user has no password"),
        ("mongodb://user:canary@db,db2/?directConnection=true", "exclude each other"),
        ("mongodb://user:canary@db/?authMechanism=MONGODB-AWS&authSource=canary", "external"),
        ("mongodb://canary@db/?authMechanism=MONGODB-AWS", "an access key and its secret together"),
        ("mongodb://u:canary@db/?authMechanism=MONGODB-X509", "MONGODB-X509 takes no password"),
        ("mongodb://u:canary@db/?srvMaxHosts=2", r"are of mongodb\+srv"),
        ("mongodb://u:canary@db/?minPoolSize=9&maxPoolSize=2", "its minPoolSize is over"),
        ("mongodb://u:canary@db/?maxStalenessSeconds=200", "its read preference is not valid"),
        ("mongodb://u:canary@db/?heartbeatFrequencyMS=10", "heartbeatFrequencyMS"),
        ("mongodb://u:canary@db/?retryReads=true;tls=true&w=1", "joined by both"),
        ("mongodb+srv://user:canary@10.0.0.1/?retryReads=true", "no IP address"),
        ("mongodb+srv://user:canary@a.b.c,d.e.f/?retryReads=true", "one host name"),
        ("mongodb+srv://user:canary@a.b.c:27017/?retryReads=true", "without a port"),
        ("mongodb+srv://user:canary@a.b.c/?directConnection=true", "exclude each other"),
        ("mongodb://user:canary@db:port", "a port in it is no number"),
        ("mongodb://user:canary@1::2", "its list of hosts"),
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


# ------------------------------------------------------------------------- mongodb+srv and DNS

DNSPYTHON: Any = resolver  # its errors have no types
QUESTION = dns.message.make_query("shop.example.com", "SRV")
SRV = "mongodb+srv://user:canary@shop.example.com/?connectTimeoutMS=200"


def clients_of(uri: str = SRV) -> Clients:
    return Clients(Settings(table="table", uri=uri, streams=STREAMS), lambda: uri)


@pytest.fixture
def look_ups(monkeypatch: pytest.MonkeyPatch) -> LookUps:
    """What the driver asks dnspython; see `LookUps`."""
    found = LookUps()
    monkeypatch.setattr(srv_resolver, "_resolve", found.resolve)
    return found


class LookUps:
    """Each look-up fails with `failure`, once `answers` is set."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.lifetimes: list[float] = []
        self.failure: Exception = DNSPYTHON.LifetimeTimeout(timeout=0.2, errors=[])
        self.answers = threading.Event()
        self.answers.set()

    def resolve(self, name: str, kind: str, lifetime: float) -> Any:
        self.asked.append((name, kind))
        self.lifetimes.append(lifetime)
        self.answers.wait(5)
        raise self.failure


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (DNSPYTHON.LifetimeTimeout(timeout=1, errors=[]), "DNS did not answer"),
        (DNSPYTHON.NoNameservers(request=QUESTION, errors=[]), "DNS did not answer"),
        (OSError("canary"), "DNS did not answer"),
        (DNSPYTHON.NXDOMAIN(), "DNS has no SRV record"),
        (DNSPYTHON.NoAnswer(response=QUESTION), "DNS has no SRV record"),
    ],
)
def test_a_name_that_does_not_resolve_is_no_bad_connection_string(
    look_ups: LookUps, failure: Exception, words: str
) -> None:
    """G12: what to check in a VPC, and nothing of percent-encoding."""
    look_ups.failure = failure
    with pytest.raises(HostNotFound, match=f"MongoDB cannot be reached: {words}") as unfound:
        clients_of().get()
    assert "in a VPC, check that enableDnsSupport" in str(unfound.value)
    assert "percent" not in str(unfound.value)
    assert "canary" not in str(unfound.value)
    assert "example" not in str(unfound.value)
    assert look_ups.asked == [("_mongodb._tcp.shop.example.com", "SRV")]
    assert look_ups.lifetimes == [0.2]


def test_streams_share_one_look_up_and_its_failure(look_ups: LookUps) -> None:
    """Three streams ask at once; each is told, and DNS was asked once."""
    look_ups.answers.clear()
    clients, told = clients_of(), []

    def get() -> None:
        with pytest.raises(HostNotFound) as unfound:
            clients.get()
        told.append(str(unfound.value))

    threads = [threading.Thread(target=get) for _ in range(3)]
    for thread in threads:
        thread.start()
    look_ups.answers.set()
    for thread in threads:
        thread.join(5)
    assert len(told) == 3
    assert len(look_ups.asked) == 1


def test_the_next_invocation_looks_again(look_ups: LookUps) -> None:
    clients = clients_of()
    for _ in range(2):
        with pytest.raises(HostNotFound):
            clients.get()
        with pytest.raises(HostNotFound):
            clients.get_raw()
    assert len(look_ups.asked) == 1
    clients.begin_invocation()
    with pytest.raises(HostNotFound):
        clients.get()
    assert len(look_ups.asked) == 2


def test_a_resolver_that_never_answers_is_left_behind(
    look_ups: LookUps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: and it holds no lock: the next invocation asks anew, while the first still waits."""
    monkeypatch.setattr(client, "LOOK_UP_S", 0.1)
    look_ups.answers.clear()
    clients = clients_of()
    for _ in range(2):
        clients.begin_invocation()
        began_s = time.monotonic()
        with pytest.raises(HostNotFound, match="DNS did not answer"):
            clients.get()
        assert time.monotonic() - began_s < 1
    assert len(look_ups.asked) == 2
    look_ups.answers.set()


def test_a_client_that_comes_late_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LOOK_UP_S", 0.1)
    late, made = threading.Event(), Closing()

    def make(*_: object, **__: object) -> Any:
        late.wait(5)
        return made

    monkeypatch.setattr(pymongo, "MongoClient", make)
    with pytest.raises(HostNotFound):
        clients_of().get()
    late.set()
    assert made.closed.wait(5)


class Closing:
    """A client that tells when it was closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


def test_what_else_goes_wrong_in_a_look_up_is_not_called_dns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(*_: object, **__: object) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(pymongo, "MongoClient", make)
    with pytest.raises(ZeroDivisionError):
        clients_of().get()


@pytest.mark.parametrize(
    ("hosts", "txt", "words"),
    [
        (["shop.evil.net"], None, "a host outside the domain"),
        (["a.example.com"], ["retryReads=false"], "its DNS TXT record"),
        (["a.example.com"], ["authSource=a", "authSource=b"], "its DNS TXT record"),
    ],
)
def test_a_record_that_drivers_do_not_take_is_told_as_one(
    hosts: list[str], txt: list[str] | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(name: str, kind: str, **_: float) -> Any:
        if kind == "TXT" and txt is None:
            raise DNSPYTHON.NoAnswer(response=QUESTION)
        lines = (
            [f'"{each}"' for each in txt or []]
            if kind == "TXT"
            else [f"0 0 27017 {host}." for host in hosts]
        )
        return dns.rrset.from_text(f"{name}.", 60, "IN", kind, *lines)

    monkeypatch.setattr(srv_resolver, "_resolve", resolve)
    with pytest.raises(ConfigError, match=words) as mistake:
        clients_of().get()
    assert "canary" not in str(mistake.value)
    assert "example" not in str(mistake.value)


def test_a_silent_name_server_costs_what_the_connection_string_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G5: dnspython itself, against a server that takes each question and says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        asking = resolver.Resolver(configure=False)
        asking.nameservers, asking.port = ["127.0.0.1"], silent.getsockname()[1]
        monkeypatch.setattr(resolver, "default_resolver", asking)
        began_s = time.monotonic()
        with pytest.raises(HostNotFound, match="DNS did not answer"):
            clients_of().get()
        assert time.monotonic() - began_s < 1


def test_the_functions_role_is_an_identity() -> None:
    uri = "mongodb+srv://db.example.com/?authSource=%24external&authMechanism=MONGODB-AWS"
    assert options(uri)["tls"] is True


def test_the_functions_role_needs_its_signer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymongo_auth_aws", None)
    said = refused(f"{REMOTE}/?authMechanism=MONGODB-AWS")
    assert "MONGODB-AWS needs pymongo-auth-aws" in said
    assert "layers/tidemark/requirements.in" in said
