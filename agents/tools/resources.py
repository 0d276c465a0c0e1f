"""Tools on resources: records of any kind that an organisation needs, such as equipment or suppliers."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from agents.tools.registry import Parameters, ToolContext, Wording, reading_tool, tool
from domain.office import resources

_KIND = r"^[a-z0-9][a-z0-9-]{0,62}$"
ResourceId = Annotated[UUID, Field(description="The resource's id, as list_resources returns it")]


class CreateResource(Parameters):
    """What it is, and what is known of it."""

    kind: Annotated[
        str, Field(max_length=63, pattern=_KIND, description="What kind of thing, such as equipment or supplier")
    ]
    name: Annotated[str, Field(min_length=1, max_length=200, description="Its name, one of its kind")]
    data: Annotated[
        dict[str, Any],
        Field(default_factory=dict, description="What is to be kept of it: fields of any names, up to 64 KB"),
    ]


class OneResource(Parameters):
    """Which resource."""

    resource_id: ResourceId


class ListResources(Parameters):
    """Which resources."""

    kind: Annotated[str | None, Field(max_length=63, pattern=_KIND, description="Only resources of this kind")] = None
    query: Annotated[str | None, Field(max_length=200, description="The resource's name, or part")] = None
    limit: Annotated[int, Field(ge=1, le=100, description="At most so many rows")] = 20
    skip: Annotated[int, Field(ge=0, le=100_000, description="Leave out so many rows, seen before")] = 0


class UpdateResource(OneResource):
    """What changes."""

    version: Annotated[int, Field(ge=1, le=2_000_000_000, description="The version that read_resource returned")]
    data: Annotated[
        dict[str, Any], Field(description="Fields to set; null takes a field away; what is not named stays")
    ]


@tool(
    "create_resource",
    category="resources",
    parameters=CreateResource,
    permission="resources:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # a second one of the same kind and name is refused
    wording=Wording("create|add|record|register|cre~|anad~|registr~ resource*|recurso*", prose="data"),
)
def create_resource(context: ToolContext, wanted: CreateResource) -> dict[str, Any]:
    """Create a resource: a record of any kind, with a name and fields of your choice. Returns the resource_id. Refuses
    a second one of the same kind and name.
    """
    return resources.create_resource(
        context.connection, context.acting, kind=wanted.kind, name=wanted.name, data=wanted.data
    )


@reading_tool(
    "read_resource", category="resources", parameters=OneResource, permission="resources:read", returns="records"
)
def read_resource(context: ToolContext, wanted: OneResource) -> dict[str, Any]:
    """Read one resource: its kind, name, data, and the version that update_resource asks for."""
    return resources.view_resource(context.connection, wanted.resource_id, context.zone)


@reading_tool(
    "list_resources", category="resources", parameters=ListResources, permission="resources:read", returns="records"
)
def list_resources(context: ToolContext, wanted: ListResources) -> dict[str, Any]:
    """List resources by kind and name, without their data. Returns resource_id, kind, name and version of each, and how
    many there are in all.
    """
    rows, total = resources.list_resources(
        context.connection,
        wanted.query,
        kind=wanted.kind,
        limit=wanted.limit,
        skip=wanted.skip,
        zone=context.zone,
    )
    return {"resources": rows, "count": len(rows), "total": total}


@tool(
    "update_resource",
    category="resources",
    parameters=UpdateResource,
    permission="resources:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # a repeat is refused: the version has changed
    wording=Wording("update|change|actualiz~|cambi~ resource*|recurso*", prose="data, version"),
)
def update_resource(context: ToolContext, wanted: UpdateResource) -> dict[str, Any]:
    """Update one resource: the fields named in data are set, those that are null are taken away, the others stay.
    Refuses when somebody changed it since the version you read.
    """
    return resources.update_resource(context.connection, wanted.resource_id, version=wanted.version, patch=wanted.data)


@tool(
    "delete_resource",
    category="resources",
    parameters=OneResource,
    permission="resources:delete",
    changes_world=True,
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # a deleted resource is not found
    risk="critical",
)
def delete_resource(context: ToolContext, wanted: OneResource) -> dict[str, Any]:
    """Delete one resource. It is found no more, and its name is free again; read it first to be sure which it is."""
    return resources.delete_resource(context.connection, wanted.resource_id)


RESOURCE_TOOLS = [create_resource, read_resource, list_resources, update_resource, delete_resource]
