"""A small S3-compatible server that checks what S3 checks: the signature, the digest of the body and the time."""

import hashlib
import hmac
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.servers import serving

ACCESS_KEY, SECRET_KEY, REGION = "AKIAEXAMPLE", "wJalrXUtnFEMI", "eu-1"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w+)"
)

_SKEW = timedelta(minutes=15)


@dataclass
class Bucket:
    """What the server holds, by path, and how often it is to fail before it serves again."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    failures: int = 0

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(routes=[Route("/{path:path}", self._serve, methods=["PUT", "GET", "DELETE"])])

    async def _serve(self, request: Request) -> Response:
        body = await request.body()
        if self.failures:
            self.failures -= 1
            return Response("<Code>SlowDown</Code>", 503)
        if reason := misfit(request, body):
            self.refused.append(reason)
            return Response(f"<Code>SignatureDoesNotMatch</Code>{reason}", 403)
        path = request.url.path
        if request.method == "PUT":
            self.objects[path] = body
        elif request.method == "DELETE":
            self.objects.pop(path, None)
            return Response(status_code=204)
        elif path not in self.objects:
            return Response("<Code>NoSuchKey</Code>", 404)
        return Response(self.objects.get(path, b"") if request.method == "GET" else b"")


def misfit(request: Request, body: bytes) -> str | None:
    """What is wrong with the signature of a request, worked out from what arrived."""
    found = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if found is None:
        return "there is no signature"
    access_key, day, region, names, signature = found.groups()
    moment = request.headers["x-amz-date"]
    sent = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if (access_key, region, day) != (ACCESS_KEY, REGION, moment[:8]) or abs(datetime.now(UTC) - sent) > _SKEW:
        return "another key, region or time"
    if request.headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
        return "the digest is not the body's"
    if not {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names.split(";")):
        return "a header is not signed"
    path, _, query = request.scope["raw_path"].decode().partition("?")
    signed = "".join(f"{name}:{request.headers[name]}\n" for name in names.split(";"))
    asked = f"{request.method}\n{path}\n{query}\n{signed}\n{names}\n{request.headers['x-amz-content-sha256']}"
    key = f"AWS4{SECRET_KEY}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    digest = hashlib.sha256(asked.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{day}/{region}/s3/aws4_request\n{digest}"
    if not hmac.compare_digest(hmac.digest(key, to_sign.encode(), "sha256").hex(), signature):
        return "the signature is another"
    return None


@contextmanager
def bucket_server() -> Iterator[Bucket]:
    """A server, and what it holds."""
    bucket = Bucket()
    with serving(bucket.app()) as url:
        bucket.url = f"s3://files/team%20one?endpoint={url}&region={REGION}"
        yield bucket
