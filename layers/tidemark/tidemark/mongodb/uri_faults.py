"""Why the driver cannot use a connection string, in our own words; pure.

The driver raises ConfigurationError, InvalidURI and ValueError for more than sixty causes, and
tells them apart by English alone, which may quote the string (G8): a sign in it picks our sentence.
Of a failed look-up it keeps the resolver's own error as the cause. Source: PyMongo 4.20,
`uri_parser_shared.py`, `synchronous/uri_parser.py`, `synchronous/srv_resolver.py`,
`synchronous/mongo_client.py`, `client_options.py`, `auth_shared.py`, `ssl_support.py`,
`read_preferences.py`, `topology_description.py`, `max_staleness_selectors.py`.
"""

from collections.abc import Mapping

_VPC = (
    "in a VPC, check that enableDnsSupport and enableDnsHostnames are on, that its DHCP options "
    "name a resolver that knows the host (a private hosted zone, an Atlas peering's or private "
    "endpoint's name), and that security group and network ACL let UDP and TCP 53 out to it"
)
NO_ADDRESS = (
    f"MongoDB cannot be reached: DNS has no address of its hosts; check their names; {_VPC}"
)
NO_RESOLVER = f"MongoDB cannot be reached: DNS did not answer; {_VPC}"
NO_RECORD = (
    "MongoDB cannot be reached: DNS has no SRV record of the host; compare the host in the secret "
    f"with the cluster's mongodb+srv:// string, or list its hosts by mongodb://; {_VPC}"
)
DNS_FAILURES = (NO_ADDRESS, NO_RESOLVER, NO_RECORD)
_MISSING = ("NXDOMAIN", "NoAnswer", "YXDOMAIN")  # dnspython's: somebody answered, with no record

ESCAPE = (
    "write mongodb://… or mongodb+srv://…, with each reserved character of user and password "
    "percent-encoded"
)
_ONE_HOST = (
    "mongodb+srv:// takes one host name of at least two labels, without a port and no IP address: "
    "write that name, or list the hosts by mongodb://"
)
_SRV_ONLY = (
    "its options srvMaxHosts, srvServiceName and srvAllowedHostsSuffix are of mongodb+srv://"
)
_TOGETHER = (
    "it has options that exclude each other: directConnection, loadBalanced, replicaSet, "
    "srvMaxHosts and more than one host; keep the one that the deployment needs"
)
_FOREIGN_HOST = (
    "its SRV record names a host outside the domain of the host in the secret: check the host's "
    "domain, or have the record mended by who owns it"
)
_TXT = (
    "its DNS TXT record is not one that drivers take, which is at most one, with authSource, "
    "replicaSet and loadBalanced only: have it mended, or list the hosts by mongodb://"
)
_TLS = (
    "its TLS options contradict each other: name tls or ssl once, tlsInsecure without the single "
    "waivers it stands for, and tlsCRLFile without any"
)
_EXTERNAL = (
    "its authMechanism keeps its users in $external: write authSource=%24external, or leave "
    "authSource out"
)
_OIDC = (
    "its MONGODB-OIDC options are not complete: name ENVIRONMENT, and TOKEN_RESOURCE where that "
    "needs it, in authMechanismProperties"
)
_KEY = (
    "the private key of its tlsCertificateKeyFile does not match the certificate, or its password"
)
_READ = (
    "its read preference is not valid: primary goes with neither tags nor maxStalenessSeconds, "
    "which is at least 90 and ten seconds over heartbeatFrequencyMS"
)
_HOSTS = (
    "its list of hosts has an empty, doubled or malformed entry: write host:port, one comma apart"
)
_USER_ALONE = "its user has no password: write user:password@ before the host"
_AWS = (
    "MONGODB-AWS takes an access key and its secret together, or neither, which is the function's "
    "own role: remove the user, or add the secret"
)
_SET_NAME = (
    "its replicaSet is not the name that the servers give their set: take the name from "
    "rs.status(), or drop the option"
)
_PORT = (
    "a port in it is no number from 1 to 65535, or user or password has an unescaped character: "
    f"mend the port; {ESCAPE}"
)
_DATABASE = (
    "the database after its host is not a valid name, or user or password has an unescaped slash: "
    f"mend the name; {ESCAPE}"
)
_OTHER = f"it is no valid connection string; {ESCAPE}"

_FAULTS: Mapping[str, str] = {  # the first sign that is in the driver's words
    "dnspython": "mongodb+srv:// needs dnspython, which the layer lacks: make build again",
    "TXT record": _TXT,
    "supported from DNS": _TXT,
    "return address is identical": _FOREIGN_HOST,
    "Invalid SRV host": _FOREIGN_HOST,
    "not a valid hostname for": _ONE_HOST,
    "one, and only one, hostname": _ONE_HOST,
    "must not include a port number": _ONE_HOST,
    "only allowed with 'mongodb+srv": _SRV_ONLY,
    "srvAllowedHostsSuffix": _SRV_ONLY,
    "with srvMaxHosts": _TOGETHER,
    "directConnection=true": _TOGETHER,
    "loadBalanced=true": _TOGETHER,
    "Port ": _PORT,
    "IPv6": _HOSTS,
    "must be escaped": f"its user or password has an unescaped character; {ESCAPE}",
    "not valid username": f"its user is empty; {ESCAPE}",
    "requires a username": "its authMechanism needs a user: write user:password@ before the host",
    "A password is required": _USER_ALONE,
    "password can't be empty": _USER_ALONE,
    "not supported by MONGODB-X509": "MONGODB-X509 takes no password: remove it",
    "not supported by MONGODB-AWS": _AWS,
    "authentication source must be": _EXTERNAL,
    "authSource database cannot be": "its option authSource is empty: name a database or drop it",
    "OIDC": _OIDC,
    "ALLOWED_HOSTS": _OIDC,
    "Private key": _KEY,
    "TLS has not been enabled": "it has TLS options and TLS is off: add tls=true, or remove them",
    "cannot be specified simultaneously": _TLS,
    "CRL": _TLS,
    "conflicting values for URI options": _TLS,
    "ssl module": "Python has no ssl module here, which TLS needs: use Lambda's own runtime",
    "Read preference": _READ,
    "maxStalenessSeconds": _READ,
    "heartbeatFrequencyMS": "its heartbeatFrequencyMS is below 500, the least: raise it or drop it",
    "minPoolSize": "its minPoolSize is over maxPoolSize: lower it, or drop both",
    "belongs to a set named": _SET_NAME,
    "wire version": "the server's version is not one that this driver speaks to: upgrade it",
    "load balancing mode": "its loadBalanced=true is not what the server supports: drop it",
    "Sessions are not supported": (
        "the deployment has no sessions, which change streams need: name a replica set or a "
        "sharded cluster"
    ),
    "nix domain socket": _HOSTS,
    "Empty host": _HOSTS,
    "at least one host": _HOSTS,
    "Bad database name": _DATABASE,
    "option separators": "its options are joined by both & and ;: use one of them",
    "key=value pairs": "one of its options has no value: write name=value, joined by &",
}


def fault_of(error: Exception) -> str:
    """What is wrong with a connection string, and what to do; nothing of it is repeated."""
    words = str(error)
    return next((fault for sign, fault in _FAULTS.items() if sign in words), _OTHER)


def dns_failure(error: BaseException) -> str | None:
    """Our sentence where DNS is what failed; None where it is something else."""
    cause = error.__cause__
    if cause is None or not (
        type(cause).__module__.startswith("dns.") or isinstance(cause, OSError)
    ):
        return None
    return NO_RECORD if type(cause).__name__ in _MISSING else NO_RESOLVER
