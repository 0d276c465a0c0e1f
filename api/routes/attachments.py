"""Attachments: upload files to send with messages, look at them, delete them; and the addresses that serve them."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from core.blobs.addresses import PREFIX, read_address, serving_headers
from core.blobs.store import blob_store
from core.errors import NotPermitted
from core.text import Storable
from domain.attachments import service as attachments
from domain.attachments.schemas import Attachment
from domain.tenants import service as tenants
from web.auth import Needs, Principal
from web.problems import describes
from web.uploads import keep, received

router = APIRouter(tags=["conversations"])

Reads = Annotated[Principal, Depends(Needs("conversations:read", at_a_location=True))]
Writes = Annotated[Principal, Depends(Needs("conversations:write", at_a_location=True))]
FileName = Annotated[
    str, Query(description="file name", min_length=1, max_length=200, examples=["prices.csv"]), Storable
]
LocationSlug = Annotated[
    str | None, Query(description="slug of the location of the conversation it is for", max_length=63), Storable
]
_FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/v1/attachments", status_code=201, responses=describes(401, 403, 413, 422), openapi_extra=_FILE)
async def upload_attachment(
    request: Request, caller: Writes, response: Response, name: FileName, location: LocationSlug = None
) -> Attachment:
    """Upload a file to send with a message: the body is its content, the header Content-Type its media type. Text, CSV,
    Markdown, JSON, images and PDF are taken. If it is not sent within a day, it is deleted.
    """
    place = await run_in_threadpool(_place, caller, location)
    async with received(request.stream(), name, request.headers.get("content-type", "")) as upload:
        made = await run_in_threadpool(keep, caller, upload, place)
    response.headers["location"] = f"/v1/attachments/{made.id}"
    return attachments.shown(made)


def _place(caller: Principal, location: str | None) -> UUID | None:
    if location is None and caller.reach.everywhere:
        return None
    with caller.reading() as connection:
        named = tenants.location_called(connection, location).id if location else None
    mine = caller.reach.locations
    named = next(iter(mine)) if named is None and len(mine) == 1 else named
    if named is None or not (caller.reach.everywhere or named in mine):
        raise NotPermitted("You may upload files for some locations only: set `location` to one of them.")
    return named


@router.get("/v1/attachments/{attachment_id}", responses=describes(401, 403, 404, 422))
def get_attachment(attachment_id: UUID, caller: Reads) -> Attachment:
    """Return an attachment, with an address from which it can be downloaded for some minutes."""
    with caller.reading() as connection:
        return attachments.shown(attachments.get(connection, attachment_id, caller.user_id))


@router.delete("/v1/attachments/{attachment_id}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_attachment(attachment_id: UUID, caller: Writes) -> None:
    """Delete an attachment and its content. Messages that had it show its id still; agents read that it was deleted."""
    with caller.writing() as connection:
        attachments.delete(connection, attachments.get(connection, attachment_id, caller.user_id))


@router.get(PREFIX + "{token}", include_in_schema=False)
def download_blob(token: str) -> Response:
    """Serve a file by its signed address. The bytes pass through the API, also from a bucket, so that the headers
    that keep a browser from running them are ours.
    """
    ticket = read_address(token, datetime.now(UTC))
    opened = ExitStack()
    pieces = opened.enter_context(blob_store().open(ticket.key))  # before the response begins, to tell what is wrong

    def content() -> Iterator[bytes]:
        with opened:
            yield from pieces

    return StreamingResponse(content(), media_type=ticket.media_type, headers=serving_headers(ticket))
