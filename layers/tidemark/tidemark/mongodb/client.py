"""One client a container: made at the first run, kept across invocations.

The connection string's own options win over the defaults here. The host of a mongodb+srv string is
looked up when its client is made, by a thread of its own: PyMongo would do it at the first request
of each stream, and a resolver that never answers may hold it longer than a run may last.
"""

import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeAlias
from urllib.parse import unquote

import pymongo
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo.errors import ConfigurationError, PyMongoError
from pymongo.uri_parser import split_options

from tidemark.errors import ConfigError, HostNotFound
from tidemark.mongodb.replies import Replies
from tidemark.mongodb.uri_faults import DNS_FAILURES, NO_RESOLVER, dns_failure, fault_of
from tidemark.settings import Settings

Document: TypeAlias = dict[str, Any]
Client: TypeAlias = "pymongo.MongoClient[Document]"
Attempt: TypeAlias = "tuple[Client | None, str]"  # a client, or why there is none

LOCAL = re.compile(r"((?i:localhost)|127(\.\d+){3}|\[::1\])(:\d+)?|.+\.sock")
SRV = "mongodb+srv://"
LOOK_UP_S = 5.0  # for SRV and TXT together; the driver gives each of them connectTimeoutMS
WEAK_TLS = {"tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames"}

# The driver's debug log holds whole commands and answers, whatever level the function's has (G8).
logging.getLogger("pymongo").setLevel(logging.INFO)


class Clients:
    """The container's client, and what its servers say beside their answers."""

    def __init__(self, settings: Settings, connection_string: Callable[[], str]) -> None:
        self.replies = Replies()
        self._settings = settings
        self._connection_string = connection_string
        self._making = threading.Lock()
        self._client: Client | None = None
        self._raw: Client | None = None
        self._forgotten: list[Client | None] = []
        self._not_found: str | None = None

    def begin_invocation(self) -> None:
        """Let a host be looked up again that DNS did not find in an earlier invocation."""
        self._not_found = None

    @property
    def current(self) -> "Client | None":
        """The client, if there is one."""
        return self._client

    def get(self) -> Client:
        """The client; made where there is none.

        Whoever comes while another stream's run looks the host up waits for that, and has its
        outcome: nobody looks again in the same invocation. Raises ConfigError for a bad connection
        string and HostNotFound within `LOOK_UP_S`.
        """
        with self._making:
            if self._client is None:
                self._client = self._make()
            return self._client

    def forget(self, client: Client) -> None:
        """Let the next `get` fetch the connection string again and connect anew.

        Nothing happens where another stream's run has done so already. Runs that still read through
        the forgotten client go on with it: it is closed when the next one is forgotten.
        """
        with self._making:
            if self._client is client:
                self._close_forgotten()
                self._forgotten = [self._client, self._raw]
                self._client = self._raw = None

    def close(self) -> None:
        """Close every client. For tools and tests: a Lambda container never ends by itself."""
        with self._making:
            self._close_forgotten()
            self._forgotten = [self._client, self._raw]
            self._client = self._raw = None
            self._close_forgotten()

    def _close_forgotten(self) -> None:
        for client in self._forgotten:
            if client is not None:
                client.close()

    def get_raw(self) -> Client:
        """A second client, whose documents stay raw BSON: only streams that look at each need it.

        The driver has no other way to watch a whole deployment undecoded. It looks at each
        document's top level itself, for `_id`: text that is no UTF-8 must not stop it there. The
        strict decoding of the document's bytes comes later, and judges.
        """
        with self._making:
            if self._raw is None:
                self._raw = self._make(
                    document_class=RawBSONDocument, unicode_decode_error_handler="replace"
                )
            return self._raw

    def _make(self, **options: Any) -> Client:
        if self._not_found is not None:
            raise HostNotFound(self._not_found)
        uri = self._connection_string()
        new = partial(self._new, uri, options)
        made, why = _looked_up(new) if uri.startswith(SRV) else _tried(new)
        if made is not None:
            return made
        if why in DNS_FAILURES:
            self._not_found = why
            raise HostNotFound(why)
        raise ConfigError([f"secret: its value cannot be used: {why}"])

    def _new(self, uri: str, options: dict[str, Any], **more: Any) -> Client:
        options = client_options(uri, self._settings) | options | more
        return pymongo.MongoClient(uri, event_listeners=[self.replies], **options)


def _looked_up(new: Callable[..., Client]) -> Attempt:
    """Make a client that looks its host up at once, or leave that behind after `LOOK_UP_S`."""
    looking: Future[Attempt] = Future()
    threading.Thread(
        target=_fulfil, args=(looking, partial(new, connect=True)), daemon=True
    ).start()
    try:
        return looking.result(LOOK_UP_S)
    except TimeoutError:
        looking.add_done_callback(_close_late)
        return None, NO_RESOLVER


def _fulfil(looking: Future[Attempt], new: Callable[[], Client]) -> None:
    try:
        looking.set_result(_tried(new))
    except BaseException as error:
        looking.set_exception(error)


def _close_late(looking: Future[Attempt]) -> None:
    """Close a client that nobody waits for any more."""
    if looking.exception() is None and (late := looking.result()[0]) is not None:
        late.close()


def _tried(new: Callable[[], Client]) -> Attempt:
    """The client, or why there is none: the driver's own error may quote the value (G8)."""
    try:
        return new(), ""
    except OSError as error:
        return None, f"it names a file that cannot be read ({type(error).__name__})"
    except (PyMongoError, ValueError, TypeError) as error:
        return None, dns_failure(error) or fault_of(error)


def client_options(uri: str, settings: Settings) -> dict[str, Any]:
    """Our defaults, less what `uri` says itself.

    Raises ConfigError where `uri` gives up TLS, or has an option that the driver does not take.
    """
    own = uri_options(uri)
    _require_valid(uri)
    _require_signer(own)
    defaults: dict[str, Any] = {
        "appname": "tidemark",
        "maxPoolSize": len(settings.streams) + 1,
        "serverSelectionTimeoutMS": 5_000,
        "connectTimeoutMS": 3_000,
        "datetime_conversion": DatetimeConversion.DATETIME_AUTO,
    }
    if settings.ca_file is not None:
        defaults["tlsCAFile"] = settings.ca_file
    chosen = {name: value for name, value in defaults.items() if name.lower() not in own}
    if settings.tls == "required" and not is_local(uri):
        _require_tls(own)
        chosen["tls"] = True  # whatever the driver makes of the string's own
    return chosen


def uri_options(uri: str) -> dict[str, str]:
    """The options in a connection string, their names in lower case."""
    pairs = (pair.partition("=") for pair in _pairs(uri))
    return {name.lower(): unquote(value) for name, _, value in pairs}


def _pairs(uri: str) -> list[str]:
    return [pair for pair in re.split("[&;]", uri.partition("?")[2]) if pair]


def is_local(uri: str) -> bool:
    """Whether every host of a connection string is this machine, or a socket file on it."""
    rest = uri.partition("://")[2].partition("/")[0].partition("?")[0]
    hosts = rest.rpartition("@")[2].split(",")
    return not uri.startswith("mongodb+srv") and all(map(LOCAL.fullmatch, hosts))


def _require_valid(uri: str) -> None:
    """Refuse what the driver would only warn of, quoting it (G8), and then go on without."""
    names = [pair.partition("=")[0] for pair in _pairs(uri) if not _is_valid(pair)]
    if names:
        raise ConfigError(
            f"secret: {f'its option {name}' if name.isalpha() else 'one of its options'} is none "
            "that the driver takes, or its value is not valid; mend or remove it"
            for name in names
        )


def _is_valid(pair: str) -> bool:
    try:
        split_options(pair)
    except (ConfigurationError, ValueError, TypeError):
        return False
    return True


def _require_signer(own: dict[str, str]) -> None:
    if own.get("authmechanism") == "MONGODB-AWS" and find_spec("pymongo_auth_aws") is None:
        problem = (
            "secret: its authMechanism MONGODB-AWS needs pymongo-auth-aws: name it in "
            "layers/tidemark/requirements.in, then make lock and deploy again"
        )
        raise ConfigError([problem])


def _require_tls(own: dict[str, str]) -> None:
    off = [name for name in ("tls", "ssl") if own.get(name, "true").lower() != "true"]
    weak = [name for name in WEAK_TLS & own.keys() if own[name].lower() != "false"]
    if off or weak:
        raise ConfigError(
            [
                f"secret: its option {name} gives up TLS to a host that is not local; remove it, "
                "or waive TLS by MONGODB_TLS=off"
                for name in sorted(off + weak)
            ]
        )
