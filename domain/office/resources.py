"""Operations on resources: free-form records of any kind that an organisation needs."""

from dataclasses import asdict
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from core.errors import Conflict, NotFound
from core.ids import new_id
from domain.office import documents, queries
from domain.office.schemas import Maker
from domain.office.times import in_zone

Row = dict[str, Any]
Record = TypeVar("Record")


def create_resource(connection: Connection, maker: Maker, *, kind: str, name: str, data: Row) -> Row:
    """Add a resource.

    Raises:
        InvalidInput: the data cannot be stored.
        Conflict: a resource of that kind and name exists.
    """
    documents.check(data)
    resource_id = new_id()
    row = {"kind": kind, "name": name, "data": data, "version": 1}
    if not queries.insert_resource(connection, maker, id=resource_id, **row, updated_at=queries.now(connection)):
        raise Conflict(f"There is a resource {name!r} of kind {kind} already. Find it with list_resources.")
    return {"resource_id": resource_id, **row}


def view_resource(connection: Connection, resource_id: UUID, zone: ZoneInfo) -> Row:
    """Return a resource.

    Raises:
        NotFound: it does not exist or was deleted.
    """
    return in_zone(_resource(queries.resource(connection, resource_id), resource_id), zone)


def list_resources(
    connection: Connection, query: str | None, *, kind: str | None, limit: int, skip: int, zone: ZoneInfo
) -> tuple[list[Row], int]:
    """Return resources without their data, and the total number of matches."""
    rows, total = queries.resources(connection, (query or "").split(), kind=kind, limit=limit, skip=skip)
    return [in_zone(row, zone) for row in rows], total


def update_resource(connection: Connection, resource_id: UUID, *, version: int, patch: Row) -> Row:
    """Merge `patch` into a resource's data (RFC 7396), if it is still at `version`.

    Raises:
        NotFound: it does not exist or was deleted.
        Conflict: it has another version by now.
        InvalidInput: the data cannot be stored.
    """
    documents.check(patch)
    before = _resource(queries.resource(connection, resource_id, locked=True), resource_id)
    if before.version != version:
        raise Conflict(f"The resource is at version {before.version}, not {version}. Read it again, then update.")
    data = documents.merged(before.data, patch)
    documents.check(data)
    queries.set_resource_data(connection, resource_id, data)
    named = {"resource_id": before.resource_id, "kind": before.kind, "name": before.name}
    return {**named, "data": data, "version": version + 1}


def delete_resource(connection: Connection, resource_id: UUID) -> Row:
    """Delete a resource; its name can be used again.

    Raises:
        NotFound: it does not exist or was deleted.
    """
    deleted = _resource(queries.mark_resource_deleted(connection, resource_id), resource_id)
    return {**asdict(deleted), "is_deleted": True}


def _resource(found: Record | None, resource_id: UUID) -> Record:
    if found is None:
        raise NotFound(f"There is no resource with id {resource_id}. Find resources with list_resources.")
    return found
