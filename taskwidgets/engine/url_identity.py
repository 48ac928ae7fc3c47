"""Which file or folder a URL means: the text from which a job's key is made.

Not for display and not for the store: it can hold secrets. See `PostgresJobStore.keyed_hash`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit, urlunsplit

__all__ = ["url_identity"]

# Parameters that sign a request. They change with each new link to the same file. By the name of
# the signature itself, as the others (such as "sp") are ordinary names where it is missing.
_SIGNED: dict[str, frozenset[str]] = {
    # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    "x-amz-signature": frozenset({
        "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires",
        "x-amz-security-token", "x-amz-signature", "x-amz-signedheaders",
    }),
    # https://cloud.google.com/storage/docs/authentication/signatures
    "x-goog-signature": frozenset({
        "x-goog-algorithm", "x-goog-credential", "x-goog-date", "x-goog-expires",
        "x-goog-signature", "x-goog-signedheaders",
    }),
    # AWS signature version 2, the same of Google, CloudFront, and Alibaba OSS:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html
    # https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-creating-signed-url-canned-policy.html
    "signature": frozenset({
        "awsaccesskeyid", "expires", "googleaccessid", "key-pair-id", "ossaccesskeyid", "policy",
        "security-token", "signature", "x-amz-security-token",
    }),
    # https://learn.microsoft.com/rest/api/storageservices/create-service-sas (and user delegation)
    "sig": frozenset({
        "saoid", "scid", "sdd", "se", "si", "sig", "sip", "ske", "skoid", "sks", "skt", "sktid",
        "skv", "sp", "spr", "sr", "srt", "ss", "st", "suoid", "sv",
    }),
    # https://www.tencentcloud.com/document/product/436/7778
    "q-signature": frozenset({
        "q-ak", "q-header-list", "q-key-time", "q-sign-algorithm", "q-sign-time", "q-signature",
        "q-url-param-list", "x-cos-security-token",
    }),
    # A bearer token in the query: https://www.rfc-editor.org/rfc/rfc6750#section-2.3
    "access_token": frozenset({"access_token"}),
}  # fmt: skip

# Storage options of fsspec's file systems that let the caller in, and say nothing of which file.
_CREDENTIALS = frozenset({
    "access_key_id", "access_token", "account_key", "auth", "authorization", "aws_access_key_id",
    "aws_secret_access_key", "aws_session_token", "client_secret", "connection_string", "cookie",
    "credential", "key", "key_file", "passphrase", "password", "pkey", "sas_token", "secret",
    "secret_access_key", "session_token", "token",
})  # fmt: skip


def url_identity(url: str, options: Mapping[str, object]) -> str:
    """A text that is equal for two calls if, and only if, they mean the same file or folder.

    Parameters
    ----------
    url : str
        The whole URL. Its password, its fragment and parameters that sign the request do not
        count; every other parameter does, in its order.
    options : Mapping
        fsspec's storage options. Credentials do not count; all else does, such as an endpoint.
    """
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    where = user.split(":", 1)[0] + at + host.lower()
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    names = {name.lower() for name, _ in parameters}
    signing = frozenset().union(*(group for name, group in _SIGNED.items() if name in names))
    query = [[name, value] for name, value in parameters if name.lower() not in signing]
    if not parameters and parts.query:
        query = [[parts.query, ""]]
    address = urlunsplit((parts.scheme.lower(), where, parts.path, "", ""))
    return json.dumps([address, query, _without_credentials(options)], sort_keys=True)


def _without_credentials(value: object) -> object:
    if isinstance(value, Mapping):
        return {
            str(name): _without_credentials(one)
            for name, one in value.items()
            if str(name).lower() not in _CREDENTIALS
        }
    if isinstance(value, list | tuple):
        return [_without_credentials(one) for one in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return type(value).__qualname__  # an object: a session, a file system's own credentials
