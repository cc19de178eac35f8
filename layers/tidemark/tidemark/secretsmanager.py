"""The connection string from AWS Secrets Manager."""

from typing import TYPE_CHECKING

from tidemark.connection import asking, connection_string

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

VARIABLE = "MONGODB_SECRET_ID"
REFUSALS = {
    "ResourceNotFoundException": "it does not exist in this region and account",
    "AccessDeniedException": "the function's role lacks secretsmanager:GetSecretValue on it",
    "DecryptionFailure": "the function's role lacks kms:Decrypt on its key",
    "InvalidRequestException": "it is marked for deletion",
}


def fetch_secret(client: "SecretsManagerClient", secret_id: str) -> str:
    """The connection string in the secret `secret_id`: its whole value, or its key `uri`.

    Raises ConfigError, SourceRefused, SourceUnavailable.
    """
    with asking("Secrets Manager", VARIABLE, REFUSALS):
        answer = client.get_secret_value(SecretId=secret_id)
    return connection_string(answer.get("SecretString"), VARIABLE)
