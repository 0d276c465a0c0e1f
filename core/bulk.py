"""Many rows in one statement."""

from typing import Any

from sqlalchemy import JSON, Connection, bindparam, text


def insert_rows(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows into a table in one statement. COPY would be faster, but PostgreSQL refuses it on tables with
    row-level security. `table` and the columns (the keys of the first row) are names from the code, never from input.
    """
    columns = ", ".join(f'"{name}"' for name in rows[0])
    statement = f"""
        INSERT INTO "{table}" ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::"{table}", :rows)
    """  # noqa: S608  names from the code
    connection.execute(text(statement).bindparams(bindparam("rows", type_=JSON)), {"rows": rows})
