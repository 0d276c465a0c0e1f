"""A model server with negligible cost: OpenAI's Chat Completions and Anthropic's Messages, with prepared answers.

Every conversation is two calls: the first answer calls the tool `search_classes`, the answer after the tool's result
ends it. If the message says `looks-5`, the tool is called five times. An answer is sent `--latency` seconds after its
request; on OpenAI's wire as a stream if that is asked for. With `--quota RATE,SIZE` a token bucket, filled with RATE
tokens a second up to SIZE, admits calls; the others are refused at once, with a correct `retry-after`. Prints its port.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import psutil

_ASKS, _TELLS = {"query": "spin"}, "Spin is on at seven."
_OPENAI = {"id": "c", "object": "chat.completion", "created": 1, "model": "bench-model", "usage": {
    "prompt_tokens": 400, "completion_tokens": 20, "total_tokens": 420}}  # fmt: skip
_ANTHROPIC = {"id": "m", "type": "message", "role": "assistant", "model": "bench-model", "stop_sequence": None,
              "usage": {"input_tokens": 400, "output_tokens": 20}}  # fmt: skip
_OPENAI_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "search_classes", "arguments": json.dumps(_ASKS)},
}


def _answer(body: object) -> bytes:
    return _ok("application/json", json.dumps(body).encode())


def _ok(content_type: str, content: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


def _refusal(seconds: float) -> bytes:
    content = b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'
    head = f"HTTP/1.1 429 Too Many Requests\r\nretry-after: {seconds:.3f}\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


class _Bucket:
    """A token bucket."""

    def __init__(self, rate: float, size: float) -> None:
        self._rate, self._size = rate, size
        self._tokens, self._at = size, time.monotonic()

    def ask(self) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        now = time.monotonic()
        self._tokens, self._at = min(self._size, self._tokens + (now - self._at) * self._rate), now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


def _openai(message: dict[str, object], reason: str) -> bytes:
    return _answer(_OPENAI | {"choices": [{"index": 0, "finish_reason": reason, "message": message}]})


def _openai_stream(delta: dict[str, object], reason: str) -> bytes:
    """Return an answer as a stream that is sent at once."""
    told = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "bench-model"}
    chunks: list[object] = [
        told | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        told | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        told | {"choices": [], "usage": _OPENAI["usage"]},
    ]
    lines = [*map(json.dumps, chunks), "[DONE]"]
    return _ok("text/event-stream", "".join(f"data: {line}\n\n" for line in lines).encode())


def _anthropic(content: dict[str, object], reason: str) -> bytes:
    return _answer(_ANTHROPIC | {"content": [content], "stop_reason": reason})


_ANSWERS = {
    (False, False): _openai({"role": "assistant", "content": None, "tool_calls": [_OPENAI_CALL]}, "tool_calls"),
    (False, True): _openai({"role": "assistant", "content": _TELLS}, "stop"),
    (True, False): _anthropic({"type": "tool_use", "id": "t", "name": "search_classes", "input": _ASKS}, "tool_use"),
    (True, True): _anthropic({"type": "text", "text": _TELLS}, "end_turn"),
}
_STREAMED = {
    False: _openai_stream({"role": "assistant", "tool_calls": [{"index": 0} | _OPENAI_CALL]}, "tool_calls"),
    True: _openai_stream({"role": "assistant", "content": _TELLS}, "stop"),
}


class _Connection(asyncio.Protocol):
    def __init__(self, latency: float, journal: TextIO | None, bucket: _Bucket | None) -> None:
        self._latency = latency
        self._journal = journal
        self._bucket = bucket
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport if isinstance(transport, asyncio.Transport) else None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            wait = self._bucket.ask() if self._bucket else 0.0
            if self._journal is not None:
                found = re.search(rb"nr[- ](\d+)", body)
                state = "refused" if wait else "admitted"
                self._journal.write(f"{found[1].decode() if found else '-'} {time.time()} {state}\n")
                self._journal.flush()
            if wait:
                self._say(_refusal(wait), at_once=True)
                continue
            looks = re.search(rb"looks-(\d+)", body)
            done = body.count(b'"tool_call_id"') + body.count(b'"tool_result"')
            is_enough = done >= (int(looks[1]) if looks else 1)
            is_anthropic = b"/messages" in head.split(b"\r\n", 1)[0]
            is_streamed = not is_anthropic and re.search(rb'"stream": ?true', body) is not None
            self._say(_STREAMED[is_enough] if is_streamed else _ANSWERS[is_anthropic, is_enough])

    def _say(self, answer: bytes, *, at_once: bool = False) -> None:
        if self._transport is None:
            return
        if self._latency > 0 and not at_once:
            asyncio.get_running_loop().call_later(self._latency, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def _serve(latency: float, journal: TextIO | None, bucket: _Bucket | None) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(latency, journal, bucket), "127.0.0.1", 0, backlog=4_096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class ModelServer:
    """A running model server."""

    def __init__(self, port: int, process: psutil.Process) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.process = process


@contextmanager
def model_server(latency: float = 0, journal: str = "", quota: str = "") -> Iterator[ModelServer]:
    """Run a model server in a separate process, and stop it afterwards. It writes each call into the file `journal`:
    its number, when it arrived, and whether it was admitted.
    """
    command = [sys.executable, "-m", "benchmarks.model_server", "--latency", str(latency), "--journal", journal]
    command += ["--quota", quota]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield ModelServer(int(line), psutil.Process(process.pid))
        finally:
            process.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0)
    parser.add_argument("--journal", default="")
    parser.add_argument("--quota", default="", help="tokens a second, and the bucket's size: 1,60")
    given = parser.parse_args()
    kept = Path(given.journal).open("a") if given.journal else None  # noqa: SIM115  until the end
    asyncio.run(_serve(given.latency, kept, _Bucket(*map(float, given.quota.split(","))) if given.quota else None))
