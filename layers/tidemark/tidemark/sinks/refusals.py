"""What a service's error means: for one entry, for the request, or for whoever runs the stack.

Only what a service is known to say of a message is a rejection of that message. Whatever else it
refuses, an operator must see to (`SinkRefused`) or time may mend (it is tried again): a proxy's
page, a wrong endpoint or a new error code sets no change aside (G1).
"""

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from tidemark.errors import SinkRefused
from tidemark.sinks.target import Failure

SDK_ERRORS = (ClientError, BotoCoreError, ResponseParserError)  # the last: a proxy's HTML
OF_SQS = "AWS.SimpleQueueService."  # a prefix of some codes, by the SDK's version

REJECTIONS = frozenset(  # of a message, or of a request for what is in it
    {
        "BatchRequestTooLong",
        "InvalidArgumentException",
        "InvalidAttributeValue",
        "InvalidMessageContents",
        "InvalidParameter",
        "InvalidParameterValue",
        "MessageTooLong",
        "ParameterValueInvalid",
        "RequestEntityTooLarge",
        "RequestEntityTooLargeException",
        "SerializationException",
        "ValidationException",
    }
)
TOO_LARGE = 413
TRANSIENT = frozenset(  # beside everything that calls itself throttled
    {
        "BandwidthLimitExceeded",
        "ExpiredToken",
        "ExpiredTokenException",
        "InternalError",
        "InternalErrorException",
        "InternalException",
        "InternalFailure",
        "InternalFailureException",
        "LimitExceededException",
        "OverLimit",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestExpired",
        "RequestLimitExceeded",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "TooManyRequestsException",
    }
)
DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "AuthorizationError",
        "AuthorizationErrorException",
        "NotAuthorized",
        "NotAuthorizedForDetailTypeException",
        "NotAuthorizedForSourceException",
    }
)
MISSING = frozenset(
    {
        "NoSuchBucket",
        "NonExistentQueue",
        "NotFound",
        "NotFoundException",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    }
)
BAD_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId",
        "InvalidAccountIdException",
        "InvalidClientTokenId",
        "InvalidToken",
        "IncompleteSignature",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
UNUSABLE = frozenset(  # said of the target or the account, in a request that is as it should be
    {
        "AccountProblem",
        "AllAccessDisabled",
        "EndpointDisabled",
        "EndpointDisabledException",
        "InvalidAction",
        "InvalidAddress",
        "InvalidBucketName",
        "InvalidSecurity",
        "InvalidSecurityException",
        "OptInRequired",
        "PermanentRedirect",
        "SubscriptionRequiredException",
        "UnknownOperationException",
        "UnsupportedOperation",
    }
)
BY_ONE_KEY_USE = frozenset({"kinesis:PutRecords"})  # the others read a key before they use it
TURNED_AWAY = frozenset({301, 401, 403, 404, 407})  # whoever answered, it was not for the message


def plain(code: object) -> str:
    """A code as the service's reference spells it."""
    return str(code).removeprefix(OF_SQS)


def is_transient(code: str) -> bool:
    """Whether the same request may succeed later."""
    return code in TRANSIENT or "throttl" in code.lower()


def raise_if_refused(failure: Failure, permission: str, target: str) -> None:
    """Raise SinkRefused where no entry can ever be taken, naming what an operator must mend."""
    code = failure.code
    if code in MISSING:
        raise SinkRefused(f"{target} does not exist in this region and account ({code})")
    if code in DENIED:
        raise SinkRefused(f"the function's role lacks {permission} on {target} ({code})")
    if code in BAD_CREDENTIALS:
        raise SinkRefused(f"the credentials are not valid for {target} ({code})")
    if code in UNUSABLE:
        raise SinkRefused(f"{target} cannot be used as it is ({code})")
    if code.upper().startswith("KMS") and not is_transient(code):
        needed = "kms:GenerateDataKey" + (
            "" if permission in BY_ONE_KEY_USE else " and kms:Decrypt"
        )
        raise SinkRefused(
            f"the function's role lacks {needed} on the key of {target}, or the key cannot be used "
            f"({code})"
        )
    if failure.turned_away:
        raise SinkRefused(
            f"{target} was not reached ({code}): what is at the endpoint, or on the way, refused "
            f"the request; check AWS_ENDPOINT_URL, proxies and {permission}"
        )


def failure_of(error: Exception) -> Failure:
    """What one of `SDK_ERRORS` says of the request."""
    if not isinstance(error, ClientError):
        return Failure(type(error).__name__)
    code = plain(error.response.get("Error", {}).get("Code", "unknown"))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    rejected = code in REJECTIONS or status == TOO_LARGE
    turned_away = status in TURNED_AWAY and not rejected and not is_transient(code)
    return Failure(code, rejected=rejected, turned_away=turned_away)
