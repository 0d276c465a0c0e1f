"""Client tools: tools that the submitter of a task brings, and carries out itself. The task waits for their results."""

TABLES = ("client_tool_results",)
