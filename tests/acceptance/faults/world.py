"""The world outside: a model that follows a plan, and a place where effects are recorded. It never forgets.

Runs in a process of its own: `python -m tests.acceptance.faults.world PORT`. It speaks the wire of OpenAI's chat
completions. A task's message is `order N: …`; the model asks for two actions, then for a third, then it answers. An
agent without tools says which orders it read.
"""

import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import uvicorn

from tests.acceptance.faults.tools import RAISED

_PLAN: tuple[tuple[str, ...], ...] = (("charge_card", "text_customer"), ("set_display",))
_ORDER = re.compile(r"order (\S+?):")
_SIGNS = ("500", "502", "503", "504", "529", "cut")
_TOKENS = {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52}


class World:
    """What happened so far, and what trouble the model makes."""

    def __init__(self) -> None:
        self.mode, self.mode_ends = "well", 0.0
        self.out_until = 0.0
        self.asked_while_out = 0
        self.tools_raise_until = 0.0
        self.raised: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.charges: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self.text_keys: set[str] = set()
        self.displays: Counter[str] = Counter()
        self.dice = random.Random(1)

    async def handle(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        """The answer to a request: status, headers, body; None for a body that breaks off."""
        if path == "/v1/chat/completions":
            return await self.complete(body)
        act = getattr(self, f"on_{path.rpartition('/')[2]}")
        if path.startswith("/effects/") and time.monotonic() < self.tools_raise_until and self.dice.random() < 0.5:
            return 200, {}, self.have_it_raise(act, body)
        return 200, {}, act(body)

    def have_it_raise(self, act: Callable[[dict[str, Any]], Any], body: dict[str, Any]) -> Any:
        """Have the tool raise something, before its effect or after."""
        if self.dice.random() < 0.5:
            act(body)
        kind = self.dice.choice(tuple(RAISED))
        self.raised[kind] += 1
        return {"raise": kind}

    def on_charge_card(self, body: dict[str, Any]) -> Any:
        """An effect that must not happen twice, and does when it is asked for twice."""
        self.charges[body["order"]] += 1
        return {"receipt": f"{body['order']}/{self.charges[body['order']]}"}

    def on_text_customer(self, body: dict[str, Any]) -> Any:
        """An effect whose side takes a key, as good ones do."""
        if body["key"] not in self.text_keys:
            self.text_keys.add(body["key"])
            self.texts[body["order"]] += 1
        return {"sent": True}

    def on_set_display(self, body: dict[str, Any]) -> Any:
        """An effect that may happen again."""
        self.displays[body["order"]] += 1
        return {"shows": body["order"]}

    def on_mode(self, body: dict[str, Any]) -> Any:
        """Make trouble for a while."""
        self.mode, self.mode_ends = body["mode"], time.monotonic() + body["seconds"]
        return {}

    def on_outage(self, body: dict[str, Any]) -> Any:
        """Answer no call of the model for a while, whatever other trouble comes."""
        self.out_until = time.monotonic() + body["seconds"]
        return {}

    def on_tools_raise(self, body: dict[str, Any]) -> Any:
        """Have every other tool raise for a while."""
        self.tools_raise_until = time.monotonic() + body["seconds"]
        return {}

    def on_report(self, _: dict[str, Any]) -> Any:
        """Everything that was seen."""
        return {
            "answered": self.answered.total(),
            "asked_while_out": self.asked_while_out,
            "repeated": self.answered.total() - len(self.answered),
            "charges": self.charges,
            "texts": self.texts,
            "displays": self.displays,
            "raised": self.raised,
        }

    def talk(self, body: dict[str, Any]) -> Any:
        """Say which orders were read, in an answer or in the notes of a conversation."""
        orders = [order for m in body["messages"] for order in _ORDER.findall(m["content"] or "")]
        self.answered[f"{body['messages'][0]['content'][:9]} {orders}"] += 1
        is_summary = body["messages"][0]["content"].startswith("You keep the notes")
        said = "Notes: " + " ".join(f"order {one}:" for one in orders) if is_summary else f"Read {' '.join(orders)}"
        return _reply(body["model"], {"content": said})

    async def complete(self, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        """One model call."""
        mode = self.mode if time.monotonic() < self.mode_ends else "well"
        if time.monotonic() < self.out_until:
            self.asked_while_out += 1
            mode = self.dice.choice(_SIGNS)
        await asyncio.sleep(self.dice.uniform(0.03, 0.25) + (3 if mode == "slow" else 0))
        match mode:
            case "429":
                return 429, {"retry-after": "1"}, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
            case "500" | "502" | "503" | "504" | "529":
                return int(mode), {}, {"error": {"message": "it is us, not you"}}
            case "hang":
                await asyncio.sleep(max(0, self.mode_ends - time.monotonic()) + 1)
            case "cut":
                return 200, {}, None
        if not body.get("tools"):
            return 200, {}, self.talk(body)
        asked = next(m["content"] for m in body["messages"] if m["role"] == "user")
        if "poison" in asked:
            return 400, {}, {"error": {"message": "this cannot be answered, ever", "code": "invalid_value"}}
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        self.answered[f"{asked} at {turn}"] += 1
        return 200, {}, _answer(body["model"], asked, turn)


def _reply(model: str, message: dict[str, Any], reason: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": _TOKENS}


def _answer(model: str, asked: str, turn: int) -> dict[str, Any]:
    order = asked.removeprefix("order ").partition(":")[0]
    calls = [
        {"id": f"call_{turn}_{name}", "type": "function",
         "function": {"name": name, "arguments": json.dumps({"order": order})}}
        for name in (_PLAN[turn] if turn < len(_PLAN) else ())
    ]  # fmt: skip
    message = {"content": None if calls else f"Done: {order}", "tool_calls": calls or None}
    return _reply(model, message, "tool_calls" if calls else "stop")


async def _say(send: Any, answer: dict[str, Any] | None) -> None:
    """Send an answer as a stream, or the beginning of one that breaks off."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for chunk in _chunks(answer):
        data = f"data: {json.dumps(chunk)}\n\n".encode()
        await send({"type": "http.response.body", "body": data, "more_body": True})
        await asyncio.sleep(0.01)
    if answer is None:
        raise ConnectionResetError
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def _chunks(answer: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if answer is None:
        yield {"choices": [{"index": 0, "delta": {"content": "Let me"}, "finish_reason": None}]}
        return
    choice = answer["choices"][0]
    message, text = choice["message"], choice["message"]["content"] or ""
    for start in range(0, len(text), 3):
        yield {"choices": [{"index": 0, "delta": {"content": text[start : start + 3]}, "finish_reason": None}]}
    for index, call in enumerate(message.get("tool_calls") or []):
        delta = {"tool_calls": [{"index": index, **call}]}
        yield {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    yield {"choices": [], "usage": answer["usage"]}


def make_app() -> Any:
    """The world as an ASGI application."""
    world = World()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        asked = json.loads(body or b"{}")
        status, headers, answer = await world.handle(scope["path"], asked)
        if asked.get("stream") and status == HTTPStatus.OK:
            await _say(send, answer)
            return
        content = json.dumps(answer).encode()
        pairs = [(b"content-type", b"application/json"), (b"content-length", str(len(content) + 1).encode())]
        pairs += [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        if answer is None:  # less than was promised: the connection breaks
            await send({"type": "http.response.body", "body": b'{"id', "more_body": True})
            raise ConnectionResetError
        await send({"type": "http.response.body", "body": content + b"\n"})

    return app


# Longer than clients keep idle connections (5 s): a server that closes one just as a request comes resets it, and
# nobody can tell then whether the request was heard.
_KEEP_ALIVE = 120

if __name__ == "__main__":
    uvicorn.run(
        make_app(), port=int(sys.argv[1]), log_level="critical", access_log=False, timeout_keep_alive=_KEEP_ALIVE
    )
