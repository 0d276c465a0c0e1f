"""SQL that one slice writes for the statements of others.

A fragment declares the names that its SQL brings along, and a statement takes them from the fragment. So a name that a
fragment does not have is an error as soon as the statement's module is imported.
"""

from dataclasses import dataclass
from string import Formatter


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A subquery, or a list of CTEs, for use inside other statements."""

    name: str
    """the CTE that holds the result; for a subquery, the alias to give it"""
    columns: tuple[str, ...]
    """the columns of the result"""
    parameters: tuple[str, ...]
    """the parameters that a statement with this fragment needs values for"""
    sql: str
    """the SQL, with `{place}` where the statement fills in an expression of its own"""

    @property
    def places(self) -> set[str]:
        """The names of the expressions that a statement fills in."""
        return {place for _, place, _, _ in Formatter().parse(self.sql) if place is not None}

    def fill(self, **expressions: str) -> str:
        """Return the SQL with an expression of the statement in each place.

        Raises:
            ValueError: an expression is missing, or there is no place for it.
        """
        if expressions.keys() != self.places:
            raise ValueError(f"{self.name} takes {sorted(self.places)}, not {sorted(expressions)}")
        return self.sql.format(**expressions)

    def column(self, name: str) -> str:
        """Return a column of the result as a statement refers to it.

        Raises:
            ValueError: the result has no such column.
        """
        if name not in self.columns:
            raise ValueError(f"{self.name} has the columns {self.columns}, not {name!r}")
        return f"{self.name}.{name}"

    def parameter(self, name: str) -> str:
        """Return a parameter as a statement refers to it.

        Raises:
            ValueError: the fragment has no such parameter.
        """
        if name not in self.parameters:
            raise ValueError(f"{self.name} has the parameters {self.parameters}, not {name!r}")
        return f":{name}"
