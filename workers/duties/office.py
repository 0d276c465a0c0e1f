"""Posts, exports and campaigns: the steps that are due."""

from core.db import system_transaction
from core.duties import for_each
from domain.office import endings


def attend_office() -> None:
    """Hand over posts that are due, delete old exports, and continue campaigns."""
    with system_transaction() as connection:
        in_need = endings.organisations_in_need(connection)
    for_each(in_need, "posts, exports and campaigns not attended to", endings.attend)
