"""Opt-outs in English and Spanish, automatic replies and mails that came back, told from what people write."""

from typing import Any

import pytest

from domain.followups.inbound import failed_recipients, is_opt_out, kind_of

REPORT = """This is the mail system at host mx.example.org.

I'm sorry to have to inform you that your message could not be delivered.

Final-Recipient: rfc822; ana@example.com
Action: {action}
Status: 5.1.1
"""


@pytest.mark.parametrize(
    "body",
    [
        "STOP", "stop.", "Stop!", "STOPALL", "stop all.", "Stop-All", "QUIT", "Quit.", "END", "end", "CANCEL",
        "¡Cancelar!",
        "REVOKE", "OPTOUT", "Opt-out", "opt out please", "Please stop", "UNSUBSCRIBE", "“STOP”", "S.T.O.P",
        "\uff33\uff34\uff2f\uff30",
        "*STOP*", "_stop_", "Baja", "BAJA.", "Darme de baja", "dame de baja por favor", "Quiero darme de baja",
        "No más",
        "NO MÁS MENSAJES", "Fin", "Salir", "PARAR", "Alto", "Basta", "Detener", "Cancelar suscripción",
        "no quiero más mensajes",
        "Stop, gracias", "STOP\n\n-- \nAna Torres", "Baja\nEnviado desde mi móvil",
        "quit\n\nOn Mon, 2 Mar 2026 Gym wrote:\n> hi",
        "Quit\n\nEl lun, 2 mar 2026, Gym escribió:\n> hola", "> earlier\n\nSTOP", "<p>STOP</p>", "\u200bstop\u200b",
        "stop 🙏",
    ],
)  # fmt: skip
def test_these_opt_out(body: str) -> None:
    assert is_opt_out(body)


@pytest.mark.parametrize(
    "body",
    [
        "", ">", "> STOP", "Please stop by tomorrow", "Does the lift stop here?",
        "Cancel\nmy booking of tomorrow, please",
        "cancel my class", "Cancelar la clase de hoy", "The end of the month suits me", "quit smoking!",
        "Fin de semana?",
        "para mañana", "Bajamos?", "baja temporal por lesión", "no", "Nonstop", "I will not quit", "Salir a correr",
        "Thanks\nSTOP",
    ],
)  # fmt: skip
def test_these_do_not(body: str) -> None:
    assert not is_opt_out(body)


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto-Submitted": "auto-replied"}, {"auto-submitted": "auto-generated (vacation)"},
        {"AUTO-SUBMITTED": "Auto-Replied; owner-email=a@example.com"}, {"X-Autoreply": "yes"}, {"X-Autorespond": "x"},
        {"X-Auto-Response-Suppress": "DR, OOF, AutoReply"}, {"Precedence": "auto_reply"}, {"Precedence": "bulk"},
        {"Return-Path": "<>"}, {"Subject": "Out of Office: your offer"}, {"Subject": "Automatic reply: hi"},
        {"Subject": "Respuesta automática: hola"}, {"Subject": "Re: hi", "Auto-Submitted": "auto-replied"},
        {"Content-Type": 'multipart/report; report-type="disposition-notification"; boundary=x'},
    ],
)  # fmt: skip
def test_an_automatic_reply_is_known_by_its_headers(headers: dict[str, str]) -> None:
    assert kind_of(headers, body="I am away until Monday.") == "auto_reply"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": 'multipart/report; report-type=delivery-status;\r\n boundary="x"'},
        {"content-type": 'Multipart/Report; Report-Type="Delivery-Status"', "Auto-Submitted": "auto-replied"},
        {"X-Failed-Recipients": "ana@example.com"}, {"Subject": "Undelivered Mail Returned to Sender"},
        {"Subject": "Undeliverable: hi", "Return-Path": "<>"}, {"From": "Mail Delivery <MAILER-DAEMON@mx.example.org>"},
        {"Subject": "Delivery Status Notification (Failure)"}, {"Subject": "Mail delivery failed: returning message"},
    ],
)  # fmt: skip
def test_a_mail_that_came_back_is_known_by_its_headers(headers: dict[str, str]) -> None:
    assert kind_of(headers, body="Could not be delivered.") == "bounce"


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"body": REPORT.format(action="failed")}, "bounce"),
        ({"body": REPORT.format(action="delayed")}, "auto_reply"),
        ({"body": REPORT.format(action="delivered")}, "auto_reply"),
        ({"sender": "mailer-daemon@mx.example.org", "body": "?"}, "bounce"),
        ({"body": "I am currently out of the office until 3 March."}, "auto_reply"),
        ({"body": "Hola, estoy de vacaciones hasta el lunes"}, "auto_reply"),
        ({"body": "Fuera de la oficina hasta el 3 de marzo"}, "auto_reply"),
        ({"body": "Thank you for your message. I am on annual leave."}, "auto_reply"),
        ({"body": "Yes please! I am out on Monday, Tuesday would be fine."}, "words"),
        ({"body": "The action: failed recipient was not me"}, "words"),
        ({"headers": {"Auto-Submitted": "no"}, "body": "Yes please"}, "words"),
        ({"headers": {"Precedence": "first-class", "Return-Path": "<ana@example.com>"}, "body": "Yes"}, "words"),
        ({"headers": {"Content-Type": "text/plain; charset=utf-8"}, "subject": "Re: offer", "body": "Yes"}, "words"),
        ({"sender": "ana.postmaster@example.com", "body": "Yes"}, "words"),
    ],
)  # fmt: skip
def test_what_else_tells_them_apart(given: dict[str, Any], kind: str) -> None:
    assert kind_of(**{"headers": {}} | given) == kind


def test_a_report_says_to_whom_the_mail_was() -> None:
    assert failed_recipients({}, REPORT.format(action="failed")) == ["ana@example.com"]
    assert failed_recipients({"x-failed-recipients": "a@example.com, b@example.com"}, "") == [
        "a@example.com", "b@example.com",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "recipients"),
    [
        ("Original-Recipient: rfc822;Ana@Example.com\nAction: failed", ["Ana@Example.com"]),
        ("final-recipient: RFC822; <ana@example.com>  \nAction: failed", ["ana@example.com"]),
        ("Final-Recipient: rfc822; a@example.com\n\nFinal-Recipient: rfc822; b@example.com\n", [
            "a@example.com", "b@example.com",
        ]),
        ("Original-Recipient: rfc822; a@example.com\nFinal-Recipient: rfc822; a@example.com\n", ["a@example.com"]),
        ('Final-Recipient: rfc822; "ana@home"@example.com\n', ['"ana@home"@example.com']),
        ("Final-Recipient: rfc822; postmaster\n", []),
        ("Final-Recipient: x400; ana@example.com\n", []),
        ("> Final-Recipient: rfc822; ana@example.com\n", []),
        ("My Final-Recipient: rfc822; ana@example.com\n", []),
    ],
)  # fmt: skip
def test_the_recipients_of_a_report_are_its_fields_of_rfc_3464(body: str, recipients: list[str]) -> None:
    assert failed_recipients({}, body) == recipients


def test_recipients_in_report_and_headers_are_listed_once_and_the_report_comes_first() -> None:
    headers = {"X-Failed-Recipients": "b@example.com, ana@example.com, , c@example.com"}
    found = failed_recipients(headers, REPORT.format(action="failed"))
    assert found == ["ana@example.com", "b@example.com", "c@example.com"]


def test_a_report_on_several_recipients_is_a_bounce_if_one_of_them_failed() -> None:
    assert kind_of({}, body=REPORT.format(action="delivered") + REPORT.format(action="Failed")) == "bounce"


@pytest.mark.parametrize(
    "body",
    [
        "Final-Recipient: rfc822; " + "a@" * 49_900 + " <x",  # quadratic matching of this line takes an hour
        "Final-Recipient:" + "\n" * 99_900,
        "Final-Recipient: rfc822; ana@example.com" + " " * 99_900 + "x",
        "hello" + "!" * 99_900,
        "<" * 99_900,
        "on " + "wrote " * 16_000,
    ],
    ids=["signs", "lines", "blanks", "greeting", "brackets", "quotation"],
)
def test_a_hostile_mail_of_the_greatest_length_is_classified_like_any_other(body: str) -> None:
    assert kind_of({}, body=body) in {"words", "auto_reply"}
    assert not is_opt_out(body)
