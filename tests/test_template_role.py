"""The function's role: what the code calls, on the stack's own resources, and nothing else."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

import service
import stack
from sink_kinds import KINDS, batch_of, change
from tidemark import aws as aws_adapters
from tidemark import config
from tidemark.idempotency import idempotent
from tidemark.ports import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.model import OperationModel
    from pymongo.database import Database

    from tidemark.model import Change

NAME = "tidemark/dev/mongodb"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:tidemark/dev/mongodb-AbC123"
KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"

# Requests of the function's role that no SDK of ours sends: Lambda does, outside our process.
LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
TRACES = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty AWS inside this process."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", stack.REGION)
    with mock_aws():
        aws_adapters.client.cache_clear()
        yield
        aws_adapters.client.cache_clear()


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


@pytest.mark.parametrize("service", ["sns", "kinesis"])
def test_the_stacks_key_is_used_by_the_destination_that_needs_it_only(service: str) -> None:
    statement = statements(MongodbSecretId=NAME, KmsKeyArn=KEY, Destination=service)["StackKey"]
    services = statement["Condition"]["StringEquals"]["kms:ViaService"]
    assert {name.split(".")[0] for name in services} == {"dynamodb", "sqs", "s3", service}


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


def test_only_a_function_that_is_traced_may_write_traces() -> None:
    """Lambda writes them with the function's role; their actions know no resource."""
    deployed = stack.deploy(MongodbSecretId=NAME, Tracing="Active")
    assert allowed_by(deployed, "Traces") == TRACES
    [policy] = deployed.properties("FunctionRole")["Policies"]
    unlimited = [each for each in policy["PolicyDocument"]["Statement"] if each["Resource"] == "*"]
    assert [each["Sid"] for each in unlimited] == ["Traces"]


def test_sam_adds_no_policy_of_its_own_for_traces() -> None:
    """It does to a role that it makes: theirs is a managed one, of more than our two actions."""
    resources = stack.translated({"MongodbSecretId": NAME, "Tracing": "Active"})["Resources"]
    assert resources["Function"]["Properties"]["Role"] == {"Fn::GetAtt": ["FunctionRole", "Arn"]}
    made = {name: each for name, each in resources.items() if each["Type"].startswith("AWS::IAM")}
    assert set(made) == {"FunctionRole", "FunctionScheduleRole"}
    assert not any("ManagedPolicyArns" in each["Properties"] for each in made.values())


def test_a_function_outside_any_vpc_has_the_six_statements_of_its_job() -> None:
    assert set(statements(MongodbSecretId=NAME)) == {
        "Positions",
        "DeliveredMemory",
        "DeadLetters",
        "LargePayloads",
        "Logs",
        "ConnectionSecret",
    }


def test_what_forgets_deliveries_can_delete_no_position() -> None:
    """A stream's name has no #, so that no position has a key of this shape."""
    found = statements(MongodbSecretId=NAME)
    assert found["DeliveredMemory"]["Condition"] == {
        "ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["*#delivered"]}
    }
    assert set(found["Positions"]["Action"]) == {"dynamodb:UpdateItem", "dynamodb:PutItem"}


# ------------------------------------------------------------------ the role against the code

IN_BULK = {"SendMessageBatch": "SendMessage", "PublishBatch": "Publish"}  # no actions of their own
STREAM = """
[[stream]]
name = "orders"
database = "{database}"
max_attempts = 1
on_definition_change = "restart"
show_expanded_events = {expanded}
"""


class Calls:
    """The IAM actions of every request that an SDK in this process sends."""

    def __init__(self) -> None:
        self.actions: set[str] = set()
        boto3.setup_default_session(region_name=stack.REGION)
        boto3._get_default_session().events.register("before-call", self._note)

    def _note(self, model: OperationModel, params: Any, **_: object) -> None:
        service = model.service_model.signing_name
        names = {IN_BULK.get(model.name, model.name)}
        if model.name == "TransactWriteItems":  # allowed by what it consists of
            items = json.loads(params["body"])["TransactItems"]
            names = {f"{operation}Item" for item in items for operation in item}
        self.actions |= {f"{service}:{name}" for name in names}


def documents() -> list[dict[str, Any]]:
    """A good one, a poison one, and a poison one that a queue does not take."""
    return [{"ok": 1}, {"poison": 1}, {"poison": 1, "large": "x" * 300_000}]


def refuse_poison(change: Change) -> None:
    """Break at some documents."""
    if change.get("fullDocument", {}).get("poison"):
        raise ValueError


def run_the_main_job(
    variables: dict[str, str], database: Database[dict[str, Any]], *, expanded: str = "false"
) -> None:
    """One container's work, as it is deployed: first run, changes, dead letters, an operator.

    Its `deliver` is idempotent: that is ours too, and of the user's own calls nothing is known.
    """
    toml = STREAM.format(database=database.name, expanded=expanded)
    settings = config.parse(toml, variables)
    made = service.service(
        settings,
        service.Recorder(idempotent(refuse_poison, table=settings.table)),
        connection_string=aws_adapters.connection_string(settings),
    )
    with closing(made.source):
        made.run()
        database.orders.insert_many(documents())
        made.run()
        made.deliver(made.deliver.batches[0])  # again, as after a crash
        made.resume("orders")


@pytest.mark.parametrize(
    ("parameters", "sent_by_lambda"),
    [
        ({"MongodbSecretId": NAME}, LOGS),
        ({"MongodbParameter": "/tidemark/dev/mongodb"}, LOGS),
        ({"MongodbSecretId": NAME, "Tracing": "Active"}, LOGS | TRACES),
    ],
    ids=["secret", "parameter", "traced"],
)
def test_the_role_allows_what_the_main_job_calls_and_nothing_else(
    parameters: dict[str, str],
    sent_by_lambda: set[str],
    mongodb_uri: str,
    database: Database[dict[str, Any]],
) -> None:
    """Red when an action is taken from the role, and when one is added that nothing calls."""
    deployed = stack.deploy(**parameters, MongodbTls="off")
    boto3.client("secretsmanager").create_secret(Name=NAME, SecretString=mongodb_uri)
    boto3.client("ssm").put_parameter(
        Name="/tidemark/dev/mongodb", Value=mongodb_uri, Type="SecureString"
    )
    variables = variables_of(deployed)
    calls = Calls()
    run_the_main_job(variables, database)
    run_the_main_job(variables, database, expanded="true")  # a changed definition: a gap
    assert calls.actions.isdisjoint(sent_by_lambda)
    assert calls.actions | sent_by_lambda == allowed_by(deployed)


def variables_of(deployed: stack.Stack) -> dict[str, str]:
    """The function's environment."""
    variables: dict[str, str] = deployed.properties("Function")["Environment"]["Variables"]
    # Moto overlooks the policy's condition and would refuse every request, not those without TLS.
    boto3.client("s3").delete_bucket_policy(Bucket=variables["TIDEMARK_PAYLOAD_BUCKET"])
    return variables


def allowed_by(deployed: stack.Stack, about: str = "") -> set[str]:
    """Every action that the role allows, in statements whose Sid begins with `about`."""
    [policy] = deployed.properties("FunctionRole")["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    actions = [each["Action"] for each in statements if each["Sid"].startswith(about)]
    return {name for each in actions for name in ([each] if isinstance(each, str) else each)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_role_allows_what_a_delivery_to_the_destination_calls_and_nothing_else(
    kind: str,
) -> None:
    """On the destination alone; what is too large for it goes to the bucket."""
    deployed = stack.deploy(MongodbSecretId=NAME, Destination=kind)
    settings = config.parse('[[stream]]\nname = "orders"\n', variables_of(deployed))
    calls = Calls()
    sink = aws_adapters.sinks(settings)["destination"]
    large = change(2, fullDocument={"large": "x" * 1_100_000})
    assert sink.deliver(batch_of([change(1), large]), deadline_s=float("inf")) == Outcome(2)
    [statement] = [each for each in destination_statements(deployed) if each["Effect"] == "Allow"]
    assert statement["Resource"] == settings.sink_target
    assert calls.actions == allowed_by(deployed, "Destination") | {"s3:PutObject"}


def destination_statements(deployed: stack.Stack) -> list[Any]:
    """What the role says of the destination."""
    [policy] = deployed.properties("FunctionRole")["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    return [each for each in statements if each["Sid"].startswith("Destination")]
