"""AWS Signature Version 4: how S3 and what is compatible with it recognise a request. Pure.

Source: "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk" in the API
reference of Amazon S3. The example there is a test.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Credentials:
    """Whose requests are signed, and for which region."""

    access_key: str
    secret_key: str
    region: str

    def __repr__(self) -> str:
        return f"Credentials({self.region})"  # without the keys: a repr ends up in logs


def encoded_path(path: str) -> str:
    """Return a path as it is signed and sent: each byte but the unreserved ones and `/` in percent encoding, once."""
    return quote(path, safe="/-_.~")


def signed_headers(
    method: str,
    url: str,
    sha256: str,
    at: datetime,
    credentials: Credentials,
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the headers of a request to a URL without a query, at a time in UTC. `sha256` is the body's, hexadecimal;
    `more` are further headers to sign, by names in lower case.
    """
    parts = urlsplit(url)
    moment = f"{at:%Y%m%dT%H%M%SZ}"
    headers = {"host": parts.netloc, "x-amz-content-sha256": sha256, "x-amz-date": moment, **(more or {})}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in sorted(headers))
    canonical = "\n".join([method, parts.path or "/", "", lines, names, sha256])
    scope = f"{at:%Y%m%d}/{credentials.region}/s3/aws4_request"
    to_sign = "\n".join([_ALGORITHM, moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.new(_key(at, credentials), to_sign.encode(), hashlib.sha256).hexdigest()
    authorization = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope},SignedHeaders={names},Signature={signature}"
    )
    return headers | {"authorization": authorization}


def _key(at: datetime, credentials: Credentials) -> bytes:
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (f"{at:%Y%m%d}", credentials.region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
