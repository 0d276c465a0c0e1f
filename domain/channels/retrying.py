"""Retry delays of messages, and the back-off for receivers that fail."""

from datetime import timedelta

from domain.channels.schemas import Carrier

# Over three days, as Standard Webhooks advises and RFC 5321 (4.5.4.1) asks of mail: people have to repair a receiver.
_OVER_DAYS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
)
# Over two and a half hours: a text message that arrives the next day is out of date.
_OVER_HOURS: tuple[timedelta, ...] = tuple(
    min(timedelta(seconds=5) * 2**number, timedelta(hours=1)) for number in range(11)
)
_RETRIES: dict[Carrier, tuple[timedelta, ...]] = {
    "webhook": _OVER_DAYS,
    "email": _OVER_DAYS,
    "sms": _OVER_HOURS,
    "whatsapp": _OVER_HOURS,
    "in_app": _OVER_HOURS,
}
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=10)


def delay_after(channel: Carrier, attempts: int, retry_after: timedelta = timedelta(0)) -> timedelta | None:
    """Return how long a message waits after its `attempts`-th failure, or None if it has failed permanently. It waits
    at least `retry_after`, which the receiver asked for.
    """
    retries = _RETRIES[channel]
    return max(retries[attempts - 1], retry_after) if attempts <= len(retries) else None


def pause_after(failures: int, retry_after: timedelta = timedelta(0)) -> timedelta:
    """Return how long no message is sent to a receiver that has failed `failures` times in a row, at least
    `retry_after`. The first failure may be chance and causes no pause.
    """
    pause: timedelta = _FIRST_PAUSE * 2 ** min(failures - 2, 10) if failures > 1 else timedelta(0)
    return max(min(pause, _LONGEST_PAUSE), retry_after)
