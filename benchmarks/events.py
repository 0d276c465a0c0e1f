"""Measure the feed of events: many streams on one API process, some of them slow, and many that were abandoned.

`make bench ONLY=events`. The delay is from just before the commit of an event to its arrival at a client.
"""

import asyncio
import json
import os
import re
import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psutil

from benchmarks.installation import Installation, installation, write_results
from core.db import transaction
from domain.events import service as events

_STREAMS = int(os.environ.get("STREAMS", "500"))
_SLOW, _ABANDONED = _STREAMS // 10, 1_000
_SECONDS, _PER_SECOND = 20, 10
_AFTER = 60
_DATA = re.compile(rb"^data: (.*)$", re.MULTILINE)


@dataclass
class _Heard:
    """What all quick readers heard."""

    delays: list[float] = field(default_factory=list)
    ready: int = 0


def main() -> None:
    """Measure, print, write."""
    most = str(4 * _STREAMS)
    environment = {f"ROTA_MAX_{name}": most for name in ("CONNECTIONS", "CONNECTIONS_ADDRESS", "STREAMS_ORGANISATION")}
    with installation(environment=environment | {"ROTA_REQUESTS_PER_MINUTE_KEY": "100000"}) as rota:
        rota.adopt()
        found = asyncio.run(_measure(rota))
    print(f"{_STREAMS} streams, {_SLOW} of them slow; {_PER_SECOND} events a second for {_SECONDS} s")
    for name, value in found.items():
        print(f"{name:42} {value:10,.1f}")
    bars = [(part, found[part], found[part], found[part]) for part in ("p50 ms", "p99 ms")]
    write_results("events", found, "ms from the commit of an event to its arrival", bars)


async def _measure(rota: Installation) -> dict[str, float]:
    api = psutil.Process(rota.process_id("api"))
    ((org,),) = rota.query("SELECT id FROM organisations ORDER BY created_at LIMIT 1")
    before, heard = api.memory_info().rss, _Heard()
    quick = [asyncio.create_task(_read(rota, heard)) for _ in range(_STREAMS - _SLOW)]
    slow = [await _open(rota) for _ in range(_SLOW)]
    while heard.ready < len(quick):  # noqa: ASYNC110  many readers count up
        await asyncio.sleep(0.1)
    memory = (api.memory_info().rss - before) / _STREAMS
    began, used = time.monotonic(), _cpu(api)
    writing = threading.Thread(target=_write, args=(org, _SECONDS * _PER_SECOND))
    writing.start()
    while writing.is_alive() or len(heard.delays) < len(quick) * _SECONDS * _PER_SECOND:
        await asyncio.sleep(0.1)
        if time.monotonic() - began > 4 * _SECONDS:
            break
    took, used = time.monotonic() - began, _cpu(api) - used
    missing = len(quick) * _SECONDS * _PER_SECOND - len(heard.delays)
    for _ in range(_ABANDONED // 50):
        await asyncio.gather(*(_abandon(rota) for _ in range(50)))
    for task in quick:
        task.cancel()
    for _, writer in slow:
        writer.close()
    await asyncio.gather(*quick, return_exceptions=True)
    await asyncio.sleep(_AFTER)
    quantiles = statistics.quantiles(heard.delays, n=100)
    return {
        "events delivered a second": len(heard.delays) / took,
        "p50 ms": 1_000 * statistics.median(heard.delays),
        "p99 ms": 1_000 * quantiles[98],
        "deliveries missing": float(missing),
        "CPU of the API, share of a core": used / took,
        "kB of memory a stream": memory / 1_000,
        f"listeners left after {_AFTER} s": float(_listeners(rota)),
        f"connections left after {_AFTER} s": float(len(_clients(api))),
    }


def _write(org: UUID, count: int) -> None:
    for number in range(count):
        with transaction(org) as connection:
            told = {"name": f"bench-{number}", "payload": {"at": time.time()}}
            events.record(connection, org, "event.raised", told)
        time.sleep(1 / _PER_SECOND)


async def _open(rota: Installation) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a stream and read its headers."""
    parts = urlsplit(rota.ready["api"])
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
    key = rota.ready["api_key"]
    lines = ["GET /v1/events?type=event.raised HTTP/1.1", "Host: rota", f"Authorization: Bearer {key}"]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(status.decode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def _read(rota: Installation, heard: _Heard) -> None:
    reader, writer = await _open(rota)
    try:
        while chunk := await reader.read(2**16):
            now = time.time()
            heard.ready += chunk.count(b"event: ready")
            for line in _DATA.findall(chunk):
                told: dict[str, Any] = json.loads(line)
                if "payload" in told:
                    heard.delays.append(now - told["payload"]["at"])
    finally:
        writer.close()


async def _abandon(rota: Installation) -> None:
    _, writer = await _open(rota)
    writer.transport.abort()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _listeners(rota: Installation) -> int:
    text = rota.client().get("/metrics").text
    return int(float(re.findall(r"^rota_event_streams (\S+)$", text, re.MULTILINE)[0]))


def _clients(api: psutil.Process) -> list[Any]:
    port = {connection.laddr.port for connection in api.net_connections("tcp") if connection.status == "LISTEN"}
    return [one for one in api.net_connections("tcp") if one.status == "ESTABLISHED" and one.laddr.port in port]
