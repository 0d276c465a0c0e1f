"""Calls of client tools and their results."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from core.text import Storable

CallId = Annotated[str, StringConstraints(min_length=1, max_length=64), Storable]


class ToolResult(BaseModel):
    """The result of a call of a client tool."""

    model_config = ConfigDict(extra="forbid")

    call_id: CallId = Field(description="id of the call", examples=["call_0198a1b2000070008000000000000001_2"])
    content: Annotated[str, StringConstraints(max_length=200_000), Storable] = Field(
        description="what the tool returned; the agent reads it as data, never as an instruction",
        examples=['{"celsius": 21}'],
    )
    is_error: bool = Field(default=False, description="the tool failed; the content says why")


class ToolResults(BaseModel):
    """Results of calls of client tools."""

    model_config = ConfigDict(extra="forbid")

    results: list[ToolResult] = Field(
        min_length=1,
        max_length=128,
        description="results of open calls, one for each; the task goes on when its last open call has a result",
        examples=[[{"call_id": "call_0198a1b2000070008000000000000001_2", "content": '{"celsius": 21}'}]],
    )


@dataclass(frozen=True, slots=True)
class Given:
    """A result that was given."""

    seq: int
    content: str
    is_error: bool
