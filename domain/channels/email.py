"""E-mail over SMTP (RFC 5321), with each organisation's own server."""

import email.policy
import smtplib
import socket
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formataddr, formatdate

from core.addresses import Address, checked_address
from core.deadlines import Deadline
from core.errors import InvalidInput, Unavailable
from core.vault import Vault
from domain.channels.schemas import EmailSettings, Outgoing
from domain.channels.senders import NotSent, ReceiverInTrouble, Undeliverable

_TIMEOUT = 10.0
_PERMANENT = 500


class EmailSender:
    """Sends one e-mail per connection. Mail servers do not drop duplicates, so a lost answer leaves the outcome
    unknown.
    """

    repeat_is_harmless = False

    def __init__(self, vault: Vault, private_networks: Sequence[str], *, cap: float = 60) -> None:
        """`cap` limits a whole exchange, in seconds."""
        self._vault = vault
        self._private_networks = private_networks
        self._cap = cap

    def send(self, message: Outgoing) -> None:
        """Send `message` (see `Sender`)."""
        if message.settings is None:
            raise Undeliverable("This organisation has no e-mail channel: PUT /v1/channels/email")
        settings = EmailSettings.model_validate(message.settings)
        password = self._vault.open(message.secret) if message.secret else None
        mail = _as_bytes(settings, message)
        with Deadline(self._cap) as deadline:
            server = self._connect(settings, deadline)
            try:
                _introduce(server, settings, password, message.recipient)
                _hand_over(server, mail)
            finally:
                _part(server)

    def _connect(self, settings: EmailSettings, deadline: Deadline) -> smtplib.SMTP:
        try:
            address = checked_address(settings.host, settings.port, self._private_networks, within=deadline.left())
            return _connected(settings, address, deadline)
        except InvalidInput as error:
            raise Undeliverable(error.message) from error
        except Unavailable as error:
            raise ReceiverInTrouble(error.message) from error
        except (smtplib.SMTPException, OSError) as error:
            raise _in_trouble(error) from error


def _introduce(server: smtplib.SMTP, settings: EmailSettings, password: str | None, recipient: str) -> None:
    """Run the SMTP dialogue up to the message data; until then nothing can have been sent. A refusal of the sender or
    the recipient concerns this message. A failure before that means that the server does not work.
    """
    try:
        if settings.security == "starttls":
            server.starttls(context=ssl.create_default_context())
        server.ehlo_or_helo_if_needed()
        if password is not None:
            server.login(settings.username or settings.sender, password)
    except UnicodeError as error:
        raise Undeliverable(f"The mail server cannot be told this: {error}") from error
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise _in_trouble(error) from error
    _address_to(server, settings.sender, recipient)


def _address_to(server: smtplib.SMTP, sender: str, recipient: str) -> None:
    try:
        code, answer = server.mail(sender)
        if code == _ACCEPTED:
            code, answer = server.rcpt(recipient)
    except UnicodeError as error:
        raise Undeliverable(f"The mail server cannot be told this: {error}") from error
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise _failure(error) from error
    if code not in {_ACCEPTED, _FORWARDED}:
        raise _refusal(code, answer)


def _hand_over(server: smtplib.SMTP, mail: bytes) -> None:
    """Send the message data. If the answer is lost, the message may have been accepted."""
    try:
        code, answer = server.data(mail)
    except smtplib.SMTPDataError as error:
        raise _refusal(int(error.smtp_code), error.smtp_error) from error
    if code not in _REFUSALS and code != _ACCEPTED:
        raise smtplib.SMTPServerDisconnected("The answer was cut short.")  # the message may have been accepted
    if code != _ACCEPTED:
        raise _refusal(code, answer)


_READY, _ACCEPTED, _FORWARDED = 220, 250, 251
_REFUSALS = range(400, 600)


class _CheckedSMTP(smtplib.SMTP):
    """SMTP connection to the checked address. TLS verifies the certificate against the host name."""

    def __init__(self, address: Address, deadline: Deadline) -> None:
        self._address = address
        self._deadline = deadline
        super().__init__(timeout=_TIMEOUT)
        self._host = address.host  # for starttls

    def _get_socket(self, host: str, port: int, timeout: float | None) -> socket.socket:  # noqa: ARG002
        return self._deadline.connect(self._address, timeout or _TIMEOUT)


class _CheckedTlsSMTP(_CheckedSMTP):
    def _get_socket(self, host: str, port: int, timeout: float | None) -> socket.socket:
        plain = super()._get_socket(host, port, timeout)
        return ssl.create_default_context().wrap_socket(plain, server_hostname=self._address.host)


def _connected(settings: EmailSettings, address: Address, deadline: Deadline) -> smtplib.SMTP:
    kind = _CheckedTlsSMTP if settings.security == "tls" else _CheckedSMTP
    server = kind(address, deadline)
    code, answer = server.connect(address.host, address.port)
    if code != _READY:
        server.close()
        raise smtplib.SMTPConnectError(code, answer)
    return server


def _as_bytes(settings: EmailSettings, message: Outgoing) -> bytes:
    """Return the mail as sent over the wire, with SMTP line endings."""
    try:
        message.recipient.encode("ascii")
        return _written(settings, message).as_bytes(policy=email.policy.SMTP)
    except (UnicodeError, ValueError) as error:
        raise Undeliverable(f"It cannot be written as a mail to {message.recipient}: {error}") from error


def _written(settings: EmailSettings, message: Outgoing) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = formataddr((" ".join((settings.sender_name or "").split()), settings.sender))
    mail["To"] = message.recipient
    mail["Subject"] = " ".join(message.subject.split())
    mail["Date"] = formatdate()
    # The same in every attempt, so that a person can recognise a duplicate.
    mail["Message-ID"] = f"<{message.id}@{settings.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.body)
    return mail


def _in_trouble(error: Exception) -> ReceiverInTrouble:
    """Return the error for a failure before the sender and recipient are named: every message would fail until the
    server or its settings are corrected.
    """
    return ReceiverInTrouble(_failure(error).message)


def _failure(error: Exception) -> NotSent | Undeliverable:
    if isinstance(error, smtplib.SMTPResponseException):
        return _refusal(int(error.smtp_code), error.smtp_error)
    return NotSent(f"The mail server cannot be reached: {type(error).__name__}")


def _refusal(code: int, answer: bytes | str) -> NotSent | Undeliverable:
    said = answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
    kind = Undeliverable if code >= _PERMANENT else NotSent
    return kind(f"The mail server answered {code} {said[:300]}")


def _part(server: smtplib.SMTP) -> None:
    """Send QUIT and ignore errors: the message has already been accepted or refused."""
    try:
        server.quit()
    except (smtplib.SMTPException, OSError):
        server.close()
