"""Conversations on OpenAI's wire: the same conversations as under /v1/conversations."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body
from sqlalchemy import Connection

from api.openai_wire.errors import PREFIX
from api.openai_wire.responses import (
    Item,
    Metadata,
    conversation_object,
    items_of,
    make_id,
    page_of,
    parse_id,
    parse_items,
)
from api.routes.openai import only_location
from api.routes.openai_responses import Order, PageSize, Writes, with_files_kept
from core.errors import InvalidInput, NotFound
from core.wakeup import wakeup
from domain.conversations import service as conversations
from domain.conversations.schemas import Conversation, ConversationChange, NewConversation
from domain.tasks.schemas import SubmissionContext, unmatched_call
from web.auth import Principal

router = APIRouter(prefix=PREFIX, tags=["openai"], include_in_schema=False)

Items = Annotated[list[dict[str, Any]], Body()]
Labels = Annotated[Metadata | None, Body()]


@router.post("/conversations")
def create_conversation(
    caller: Writes, items: Annotated[list[dict[str, Any]] | None, Body()] = None, metadata: Labels = None
) -> dict[str, Any]:
    """Begin a conversation. Its agent is that of the first response."""
    earlier = _earlier(caller, items or ())
    with caller.reading() as connection:
        context = SubmissionContext(user_id=caller.user_id, location_id=only_location(caller))
        begun = conversations.begin(connection, caller.org_id, NewConversation(), context, metadata=metadata)
        conversations.append(connection, caller.org_id, begun.id, earlier)
        return conversation_object(begun)


@router.get("/conversations/{wire_conversation_id}")
def get_conversation(wire_conversation_id: str, caller: Writes) -> dict[str, Any]:
    """Return a conversation."""
    with caller.reading() as connection:
        return conversation_object(_own(connection, caller, wire_conversation_id))


@router.post("/conversations/{wire_conversation_id}")
def label_conversation(
    wire_conversation_id: str, caller: Writes, metadata: Annotated[Metadata, Body(embed=True)]
) -> dict[str, Any]:
    """Replace the metadata of a conversation."""
    with caller.writing() as connection:
        found = _own(connection, caller, wire_conversation_id)
        return conversation_object(conversations.change(connection, found.id, ConversationChange(), metadata=metadata))


@router.delete("/conversations/{wire_conversation_id}")
def delete_conversation(wire_conversation_id: str, caller: Writes) -> dict[str, Any]:
    """Delete a conversation and its words. Answers under way are stopped; what it cost stays on the bill."""
    with caller.writing() as connection:
        conversations.delete(connection, _own(connection, caller, wire_conversation_id).id)
    wakeup.hint()
    return {"id": wire_conversation_id, "object": "conversation.deleted", "deleted": True}


@router.post("/conversations/{wire_conversation_id}/items")
def add_items(
    wire_conversation_id: str, caller: Writes, items: Annotated[list[dict[str, Any]], Body(embed=True)]
) -> dict[str, Any]:
    """Add messages that were said elsewhere. Nothing answers them."""
    with caller.reading() as connection:
        found = _own(connection, caller, wire_conversation_id)
    earlier = _earlier(caller, items)
    with caller.reading() as connection:
        added = conversations.append(connection, caller.org_id, found.id, earlier)
        said = conversations.said(connection, added)
    return page_of([item for one in said for item in items_of(one)], has_more=False)


@router.get("/conversations/{wire_conversation_id}/items")
def list_items(
    wire_conversation_id: str,
    caller: Writes,
    order: Order = "desc",
    after: str | None = None,
    limit: PageSize = 20,
) -> dict[str, Any]:
    """List the messages of the branch that the conversation goes on from."""
    with caller.reading() as connection:
        found = _own(connection, caller, wire_conversation_id)
        begin = conversations.get_message(connection, found.id, parse_id("msg", after)).position if after else None
        where = {"after": begin or 0} if order == "asc" else {"before": begin}
        page = conversations.list_messages(connection, found.id, limit=limit, only_current=True, **where)
    items = [item for message in page.messages for item in items_of(message)]
    return page_of(items if order == "asc" else items[::-1], has_more=page.has_more)


@router.get("/conversations/{wire_conversation_id}/items/{wire_item_id}")
def get_item(wire_conversation_id: str, wire_item_id: str, caller: Writes) -> dict[str, Any]:
    """Return a message."""
    with caller.reading() as connection:
        found = _own(connection, caller, wire_conversation_id)
        message = conversations.get_message(connection, found.id, parse_id("msg", wire_item_id))
    return items_of(message)[0]


def _earlier(caller: Principal, items: Sequence[dict[str, Any]]) -> list[Item]:
    """Return items as messages, with their files stored."""
    earlier, instructions = parse_items(items)
    if instructions:
        raise InvalidInput("items: instructions are given with each response.")
    if problem := unmatched_call(earlier):
        raise InvalidInput(f"items: {problem}.")
    return with_files_kept(caller, earlier)


def _own(connection: Connection, caller: Principal, given: str) -> Conversation:
    found = conversations.get(connection, parse_id("conv", given))
    if found.user_id != caller.user_id:
        raise NotFound(f"There is no conversation {make_id('conv', found.id)} of yours.")
    return found
