"""What every store of the connection string has in common: how it fails, and what it may hold."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from tidemark.errors import ConfigError, SourceRefused, SourceUnavailable

SCHEMES = ("mongodb://", "mongodb+srv://")
SHAPES = 'store a connection string (mongodb://… or mongodb+srv://…), or JSON with a "uri" key'


# The SDK's debug log holds every answer, a secret's too, whatever level the function's has (G8).
logging.getLogger("botocore").setLevel(logging.INFO)


@contextmanager
def asking(service: str, variable: str, refusals: Mapping[str, str]) -> Iterator[None]:
    """Turn a service's errors into ours, with the remedy that `refusals` has for its code.

    The cause is dropped: nothing of a secret may follow an error (G8).
    """
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        if code in refusals:
            raise SourceRefused(f"{variable}: {refusals[code]} ({code})") from None
        raise SourceUnavailable(f"{service} failed ({code})") from None
    except BotoCoreError as error:
        raise SourceUnavailable(
            f"{service} did not answer ({type(error).__name__}): in a VPC, check its route"
        ) from None


def connection_string(value: str | None, variable: str) -> str:
    """The connection string in a secret's value: all of it, or the `uri` of a JSON object.

    Raises ConfigError, naming the variable that points to the secret and never its value (G8).
    """
    uri = _uri_of(value or "")
    if not isinstance(uri, str) or not uri.startswith(SCHEMES):
        raise ConfigError([f"{variable}: the secret's value is no connection string; {SHAPES}"])
    return uri


def _uri_of(value: str) -> object:
    if not value.lstrip().startswith("{"):
        return value.strip()
    try:
        return json.loads(value).get("uri")
    except json.JSONDecodeError:
        return None
