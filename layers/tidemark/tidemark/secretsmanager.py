"""The connection string from AWS Secrets Manager."""

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from tidemark.connection import connection_string
from tidemark.errors import SourceRefused, SourceUnavailable

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

REFUSALS = {
    "ResourceNotFoundException": "it does not exist in this region and account",
    "AccessDeniedException": "the function's role lacks secretsmanager:GetSecretValue on it",
    "DecryptionFailure": "the function's role lacks kms:Decrypt on its key",
    "InvalidRequestException": "it is marked for deletion",
}


def fetch_secret(client: "SecretsManagerClient", secret_id: str) -> str:
    """The connection string in the secret `secret_id`: its whole value, or its key `uri`.

    Raises ConfigError, SourceRefused, SourceUnavailable; none holds the value (G8).
    """
    try:
        answer = client.get_secret_value(SecretId=secret_id)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        if code in REFUSALS:
            raise SourceRefused(f"MONGODB_SECRET_ID: {REFUSALS[code]} ({code})") from None
        raise SourceUnavailable(f"Secrets Manager failed ({code})") from None
    except BotoCoreError as error:
        raise SourceUnavailable(
            f"Secrets Manager did not answer ({type(error).__name__}): in a VPC, check its route"
        ) from None
    return connection_string(answer.get("SecretString"), "MONGODB_SECRET_ID")
