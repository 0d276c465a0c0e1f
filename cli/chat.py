"""`rota chat`: talk with an agent, and read the answer while it is being said."""

import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import terminal
from cli.client import Api, fail, match_agent, say
from cli.layout import clean
from cli.terminal import escape
from core.ids import new_id

_HELP = """\
  /attach FILE sends a file with the next message
  /regenerate  another answer
  /up, /down   rate the answer, and say why: /down the hour is wrong
  /cost        what it cost
  /stop        stop what is pending
  /quit        leave"""
_TELL_AFTER = 3.0
_RATINGS = {"/up": "up", "/down": "down"}
_PENDING = {"queued", "answering", "waiting"}


def chat(
    agent: Annotated[str, typer.Option("--agent", "-a", help="Agent to talk with.")] = "support",
    conversation: Annotated[
        str | None,
        typer.Option("--conversation", "-c", help="Id of a conversation to go on with; `last` for the latest."),
    ] = None,
    attach: Annotated[
        list[Path] | None, typer.Option("--attach", help="File to send with the first message; repeat it for more.")
    ] = None,
) -> None:
    """Talk with an agent. Ctrl-C stops an answer; at the prompt it leaves."""
    contents = [(path.name, _read(path)) for path in attach or ()]
    api = Api.find()
    talk = _Talk(api, match_agent(api, agent), _conversation(api, conversation) if conversation else None)
    for name, content in contents:
        talk.attach(name, content)
    terminal.out.print(f"Talking with {escape(talk.agent)}.\n{_HELP}", style="dim")
    talk.show_earlier()
    while True:
        try:
            words = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            break
        if words in {"/quit", "/exit"}:
            break
        if words:
            if not sys.stdin.isatty():
                typer.echo(f"> {words}")
            talk.hear(words)
    if talk.id:
        say(f"Go on with: rota chat -c {talk.id}")


def _read(path: Path) -> bytes:
    """Return the content of a file; exit with a message if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}.")


def _conversation(api: Api, named: str) -> dict[str, Any]:
    """Return the conversation that an id, its beginning, or `last` names."""
    latest: list[dict[str, Any]] = api.get("/v1/conversations", is_visitor=False, limit=200)["conversations"]
    if not latest:
        fail("There is no conversation yet. Begin one: rota chat")
    if named == "last":
        return latest[0]
    found = [one for one in latest if one["id"].startswith(named.lower())]
    if len(found) != 1:
        many = "several conversations begin" if found else "no conversation of the latest 200 begins"
        fail(f"{named!r}: {many} with it. Write the id, more of it, or last.")
    return found[0]


class _Talk:
    """A conversation at the terminal."""

    def __init__(self, api: Api, agent: str, conversation: dict[str, Any] | None) -> None:
        """Without a conversation, the first message begins one."""
        self._api = api
        self.id: str | None = conversation["id"] if conversation else None
        self.agent: str = conversation["agent"] if conversation else agent
        self._answer: str | None = None
        self._attached: list[str] = []
        """ids of the files that go with the next message"""

    @property
    def _path(self) -> str:
        if self.id is None:
            self.id = self._api.post("/v1/conversations", {"agent": self.agent})["id"]
        return f"/v1/conversations/{self.id}"

    def show_earlier(self) -> None:
        """Print the latest messages of a conversation that goes on, and what is still being said."""
        if self.id is None:
            return
        pending = None
        for message in self._api.get(f"{self._path}/messages", limit=20)["messages"]:
            if not message["is_current"]:
                continue
            if message["role"] == "assistant":
                self._answer = message["id"]
                pending = message if message["status"] in _PENDING else None
            mark = "> " if message["role"] == "user" else ""
            if message["attachments"]:
                terminal.out.print(f"({len(message['attachments'])} attached)", style="dim")
            if message["text"]:
                terminal.out.print(f"{mark}{escape(message['text'])}", style="dim")
        if pending is not None:
            self._listen(pending)

    def hear(self, words: str) -> None:
        """Do what was typed: a command, or a message to the agent."""
        if words == "/cost":
            found = self._api.get(self._path)
            terminal.out.print(f"{found['messages']} messages, {terminal.money(found['billed_cost'])}")
        elif words == "/regenerate":
            self._regenerate()
        elif words == "/stop":
            terminal.out.print(f"{self._api.post(f'{self._path}/stop')['stopped']} stopped")
        elif words.split(maxsplit=1)[0] in _RATINGS:
            self._rate(*words.split(maxsplit=1))
        elif words.startswith("/attach "):
            self._attach_named(words.removeprefix("/attach ").strip())
        elif words.startswith("/"):
            terminal.out.print(f"There is no {escape(words)}. There are:\n{_HELP}")
        else:
            said = {"text": words, "attachments": self._attached}
            sent = self._api.post(f"{self._path}/messages", said, key=str(new_id()))
            self._attached = []
            self._listen(sent["answer"])

    def _rate(self, rating: str, comment: str = "") -> None:
        if self._answer is None:
            terminal.out.print("There is no answer yet.")
            return
        feedback = {"rating": _RATINGS[rating], "comment": comment}
        self._api.put(f"{self._path}/messages/{self._answer}/feedback", feedback)
        terminal.out.print("Thank you.", style="dim")

    def attach(self, name: str, content: bytes) -> None:
        """Upload a file, and send it with the next message."""
        made = self._api.upload(content, name)
        self._attached.append(str(made.id))
        terminal.out.print(f"{escape(clean(made.name))}, {made.size} bytes: goes with the next message", style="dim")

    def _attach_named(self, name: str) -> None:
        path = Path(name).expanduser()
        try:
            content = path.read_bytes()
        except OSError as error:
            terminal.out.print(f"{escape(name)} cannot be read: {error.strerror}.")
        else:
            self.attach(path.name, content)

    def _regenerate(self) -> None:
        if self._answer is None:
            terminal.out.print("There is no answer yet.")
            return
        self._listen(self._api.post(f"{self._path}/messages/{self._answer}/regenerate"))

    def _listen(self, answer: dict[str, Any]) -> None:
        """Print an answer while it is being said. Ctrl-C stops it."""
        self._answer = answer["id"]
        try:
            self._print_words(answer["task_id"])
        except KeyboardInterrupt:
            self._api.post(f"{self._path}/stop")
            terminal.out.print("\n(stopped)", style="dim")

    def _print_words(self, task: str) -> None:
        step = None
        late = threading.Timer(_TELL_AFTER, self._tell_why, (task,))
        late.daemon = True
        late.start()
        for event in self._api.follow(task):
            data = event.data
            if event.type not in {"task.accepted", "task.queued"}:
                late.cancel()
            if event.type == "message.delta":
                if step not in (None, data["step"]):
                    typer.echo("")
                step = data["step"]
                typer.echo(clean(data["text"]), nl=False)
            elif event.type == "message.superseded":
                typer.echo("\n(begins anew)")
            elif event.type in {"action.executed", "action.failed"}:
                terminal.out.print(f"\n[{data['tool']}]", style="dim", markup=False)
            elif event.type == "task.waiting":
                terminal.out.print(f"\nwaits for {escape(data['waiting_for'])}: rota show {task}", style="dim")
            elif event.type == "task.ended":
                typer.echo("")
                if data["status"] != "succeeded":
                    terminal.out.print(f"{terminal.status(data['status'])}: rota show {task}")

    def _tell_why(self, task: str) -> None:
        """Print why an answer does not begin."""
        found = self._api.look(f"/v1/tasks/{task}/why")
        if found and found["waiting_for"]:
            terminal.out.print(f"waits: {escape(found['why'])}", style="dim")
