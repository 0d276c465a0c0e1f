"""E-mail over SMTP (RFC 5321), with each organisation's own server."""

import email.policy
import smtplib
import socket
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formataddr, formatdate

from core.addresses import Address, checked_address
from core.errors import InvalidInput, Unavailable
from core.vault import Vault
from domain.channels.schemas import EmailSettings, Outgoing
from domain.channels.senders import NotSent, Undeliverable, capped

_TIMEOUT, _WHOLE_TIME = 10.0, 60.0
_PERMANENT = 500


class EmailSender:
    """Sends one e-mail a connection. Nobody notices a repetition: a lost answer leaves the outcome open."""

    repeat_is_harmless = False

    def __init__(self, vault: Vault, private_networks: Sequence[str]) -> None:
        self._vault = vault
        self._private_networks = private_networks

    def send(self, message: Outgoing) -> None:
        """Carry `message` (see `Sender`)."""
        if message.settings is None:
            raise Undeliverable("This organisation has no e-mail channel: PUT /v1/channels/email")
        settings = EmailSettings.model_validate(message.settings)
        password = self._vault.open(message.secret) if message.secret else None
        mail = _as_bytes(settings, message)
        server = self._connect(settings)
        with capped(server, _WHOLE_TIME):
            try:
                _introduce(server, settings, password, message.recipient)
                _hand_over(server, mail)
            finally:
                _part(server)

    def _connect(self, settings: EmailSettings) -> smtplib.SMTP:
        try:
            address = checked_address(settings.host, settings.port, self._private_networks)
        except InvalidInput as error:
            raise Undeliverable(error.message) from error
        except Unavailable as error:
            raise NotSent(error.message) from error
        try:
            return _connected(settings, address)
        except (smtplib.SMTPException, OSError) as error:
            raise _failure(error) from error


def _introduce(server: smtplib.SMTP, settings: EmailSettings, password: str | None, recipient: str) -> None:
    """Everything up to the message itself: until then nothing can have gone out."""
    try:
        if settings.security == "starttls":
            server.starttls(context=ssl.create_default_context())
        server.ehlo_or_helo_if_needed()
        if password is not None:
            server.login(settings.username or settings.sender, password)
        code, answer = server.mail(settings.sender)
        if code == _ACCEPTED:
            code, answer = server.rcpt(recipient)
    except UnicodeError as error:
        raise Undeliverable(f"The mail server cannot be told this: {error}") from error
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise _failure(error) from error
    if code not in {_ACCEPTED, _FORWARDED}:
        raise _refusal(code, answer)


def _hand_over(server: smtplib.SMTP, mail: bytes) -> None:
    """The message itself. Where the answer is lost, it may have been accepted."""
    try:
        code, answer = server.data(mail)
    except smtplib.SMTPDataError as error:
        raise _refusal(int(error.smtp_code), error.smtp_error) from error
    if code != _ACCEPTED:
        raise _refusal(code, answer)


_READY, _ACCEPTED, _FORWARDED = 220, 250, 251


class _CheckedSMTP(smtplib.SMTP):
    """SMTP to the address that was checked, under the name that certificates are issued for."""

    def __init__(self, address: Address) -> None:
        self._address = address
        super().__init__(timeout=_TIMEOUT)
        self._host = address.host  # for starttls

    def _get_socket(self, host: str, port: int, timeout: float | None) -> socket.socket:  # noqa: ARG002
        return self._address.connect(timeout or _TIMEOUT)


class _CheckedTlsSMTP(_CheckedSMTP):
    def _get_socket(self, host: str, port: int, timeout: float | None) -> socket.socket:
        plain = super()._get_socket(host, port, timeout)
        return ssl.create_default_context().wrap_socket(plain, server_hostname=self._address.host)


def _connected(settings: EmailSettings, address: Address) -> smtplib.SMTP:
    kind = _CheckedTlsSMTP if settings.security == "tls" else _CheckedSMTP
    server = kind(address)
    with capped(server, _WHOLE_TIME):
        code, answer = server.connect(address.host, address.port)
    if code != _READY:
        server.close()
        raise smtplib.SMTPConnectError(code, answer)
    return server


def _as_bytes(settings: EmailSettings, message: Outgoing) -> bytes:
    """The mail as it goes over the wire, with the line ends that SMTP has."""
    try:
        message.recipient.encode("ascii")
        return _written(settings, message).as_bytes(policy=email.policy.SMTP)
    except (UnicodeError, ValueError) as error:
        raise Undeliverable(f"It cannot be written as a mail to {message.recipient}: {error}") from error


def _written(settings: EmailSettings, message: Outgoing) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = formataddr((settings.sender_name or "", settings.sender))
    mail["To"] = message.recipient
    mail["Subject"] = " ".join(message.subject.split())
    mail["Date"] = formatdate()
    # The same at every attempt, so that a person can tell a repetition.
    mail["Message-ID"] = f"<{message.id}@{settings.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.body)
    return mail


def _failure(error: Exception) -> NotSent | Undeliverable:
    if isinstance(error, smtplib.SMTPResponseException):
        return _refusal(int(error.smtp_code), error.smtp_error)
    return NotSent(f"The mail server cannot be reached: {type(error).__name__}")


def _refusal(code: int, answer: bytes | str) -> NotSent | Undeliverable:
    said = answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
    kind = Undeliverable if code >= _PERMANENT else NotSent
    return kind(f"The mail server answered {code} {said[:300]}")


def _part(server: smtplib.SMTP) -> None:
    """Say goodbye; the message is accepted, or refused, already."""
    try:
        server.quit()
    except (smtplib.SMTPException, OSError):
        server.close()
