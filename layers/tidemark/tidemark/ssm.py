"""The connection string from AWS Systems Manager Parameter Store."""

from typing import TYPE_CHECKING

from tidemark.connection import asking, connection_string

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

VARIABLE = "MONGODB_PARAMETER"
REFUSALS = {
    "ParameterNotFound": "it does not exist in this region and account",
    "AccessDeniedException": "the function's role lacks ssm:GetParameter on it, or kms:Decrypt",
    "InvalidKeyId": "its key is disabled or does not exist",
}


def fetch_parameter(client: "SSMClient", name: str) -> str:
    """The connection string in the parameter `name`: its whole value, or its key `uri`.

    Raises ConfigError, SourceRefused, SourceUnavailable.
    """
    with asking("Parameter Store", VARIABLE, REFUSALS):
        answer = client.get_parameter(Name=name, WithDecryption=True)
    return connection_string(answer["Parameter"].get("Value"), VARIABLE)
