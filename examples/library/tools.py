"""What agents can do in a library."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from agents.tools.registry import Parameters, Tool, ToolContext, reading_tool, tool
from library import loans


class ListLoans(Parameters):
    """Whose loans."""

    reader_id: Annotated[UUID | None, Field(description="Only the books that this reader has")] = None


class ExtendLoan(Parameters):
    """Which loan."""

    loan_id: Annotated[UUID, Field(description="The loan's id, as list_loans returns it")]


@reading_tool("list_loans", category="crm", parameters=ListLoans, permission="loans:read", returns_untrusted=False)
def list_loans(context: ToolContext, wanted: ListLoans) -> dict[str, Any]:
    """List the books that are lent, who has them and when they are due."""
    found = loans.list_loans(context.connection, reader=wanted.reader_id, limit=100)
    return {"loans": [loan.model_dump() for loan in found]}


@tool(
    "extend_loan",
    category="booking",
    parameters=ExtendLoan,
    permission="loans:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
)
def extend_loan(context: ToolContext, wanted: ExtendLoan) -> dict[str, Any]:
    """Let a reader keep a book for another three weeks."""
    return {"due_at": loans.extend(context.connection, wanted.loan_id)}


TOOLS: list[Tool] = [list_loans, extend_loan]
