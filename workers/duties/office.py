"""Posts, charges and campaigns: carry each on to its end."""

from core.db import system_transaction
from domain.office import endings
from core.duties import for_each


def attend_office() -> None:
    """Publish posts that are due, expire charges that were not collected, and complete campaigns."""
    with system_transaction() as connection:
        in_need = endings.organisations_in_need(connection)
    for_each(in_need, "posts, charges and campaigns not attended to", endings.attend)
