"""What the library's follow-ups begin with."""

from typing import ClassVar, Literal

from domain.followups.triggers import Trigger


class LoanOverdue(Trigger):
    """A book is overdue. Ends when it is back, or the loan is extended."""

    kind: Literal["loan_overdue"] = "loan_overdue"

    found: ClassVar[str] = """
        SELECT id AS subject, reader_id AS contact, due_at AS begun_at, jsonb_build_object('book', title) AS facts,
               CAST(NULL AS timestamptz) AS not_after
          FROM library_loans WHERE returned_at IS NULL AND due_at <= :now
    """
    standing: ClassVar[str] = """
        SELECT a.subject, a.begun_at, l.returned_at IS NULL AND l.due_at = a.begun_at AS is_open,
               CASE WHEN l.returned_at IS NULL THEN 'the loan was extended' ELSE 'the book is back' END AS ending,
               l.returned_at AS converted_at, CAST(NULL AS numeric) AS revenue, CAST(NULL AS text) AS currency
          FROM asked a JOIN library_loans l ON l.id = a.subject
    """
