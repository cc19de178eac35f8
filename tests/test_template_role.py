"""The function's role: what the code calls, on the stack's own resources, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from moto import mock_aws

import stack

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "tidemark/dev/mongodb"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:tidemark/dev/mongodb-AbC123"
KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty AWS inside this process."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", stack.REGION)
    with mock_aws():
        yield


def statements(**parameters: str) -> dict[str, Any]:
    """The role's statements by Sid, deployed with these parameters."""
    [policy] = stack.deploy(**parameters).properties("FunctionRole")["Policies"]
    return {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}


def test_only_lambda_may_take_the_role() -> None:
    properties = stack.deploy(MongodbSecretId=NAME).properties("FunctionRole")
    [statement] = properties["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert "ManagedPolicyArns" not in properties


def test_a_secrets_name_allows_that_name_with_any_of_its_random_endings() -> None:
    resource = statements(MongodbSecretId=NAME)["ConnectionSecret"]["Resource"]
    assert resource == f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{NAME}-??????"


def test_a_secrets_arn_allows_exactly_that_secret() -> None:
    assert statements(MongodbSecretId=ARN)["ConnectionSecret"]["Resource"] == ARN


def test_a_parameter_takes_the_place_of_the_secret() -> None:
    allowed = statements(MongodbParameter="/tidemark/dev/mongodb")
    assert "ConnectionSecret" not in allowed
    assert allowed["ConnectionParameter"]["Action"] == "ssm:GetParameter"
    assert allowed["ConnectionParameter"]["Resource"] == (
        "arn:aws:ssm:us-east-1:123456789012:parameter/tidemark/dev/mongodb"
    )


@pytest.mark.parametrize(
    ("parameters", "service"),
    [
        ({"MongodbSecretId": NAME}, "secretsmanager"),
        ({"MongodbParameter": "/tidemark"}, "ssm"),
    ],
)
def test_the_secrets_key_decrypts_only_for_the_service_that_keeps_it(
    parameters: dict[str, str], service: str
) -> None:
    statement = statements(**parameters, MongodbKmsKeyArn=KEY)["ConnectionKey"]
    assert (statement["Action"], statement["Resource"]) == ("kms:Decrypt", KEY)
    assert statement["Condition"] == {
        "StringEquals": {"kms:ViaService": f"{service}.us-east-1.amazonaws.com"}
    }


def test_the_stacks_key_is_used_only_through_the_services_that_store() -> None:
    statement = statements(MongodbSecretId=NAME, KmsKeyArn=KEY)["StackKey"]
    services = statement["Condition"]["StringEquals"]["kms:ViaService"]
    assert {name.split(".")[0] for name in services} == {"dynamodb", "sqs", "s3"}


def test_nothing_is_allowed_on_every_resource() -> None:
    allowed = statements(MongodbSecretId=NAME, KmsKeyArn=KEY, MongodbKmsKeyArn=KEY)
    assert [sid for sid, each in allowed.items() if each["Resource"] == "*"] == []
    assert [sid for sid, each in allowed.items() if "*" in str(each["Action"])] == []


def test_only_a_function_in_a_vpc_may_touch_network_interfaces() -> None:
    """Lambda makes them with the function's role; their actions know no resource."""
    inside = statements(
        MongodbSecretId=NAME, SubnetIds="subnet-0123abcd", SecurityGroupIds="sg-0123abcd"
    )
    assert inside["NetworkInterfaces"]["Resource"] == "*"


def test_a_function_outside_any_vpc_has_the_five_statements_of_its_job() -> None:
    assert set(statements(MongodbSecretId=NAME)) == {
        "Positions",
        "DeadLetters",
        "LargeDeadLetters",
        "Logs",
        "ConnectionSecret",
    }
