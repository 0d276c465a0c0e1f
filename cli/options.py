"""Options that several commands share."""

from typing import Annotated

import typer

AgentOption = Annotated[str | None, typer.Option("--agent", "-a", help="The agent's slug or its beginning.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StatusOption = Annotated[
    list[str] | None, typer.Option("--status", "-s", help="Only with this status; may be repeated.")
]
PriorityOption = Annotated[list[str] | None, typer.Option("--priority", "-p", help="critical, high, normal or low.")]
