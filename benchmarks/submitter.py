"""Submit tasks to an agent over HTTP, eight at a time, with the API keys from standard input in turn:
`python -m benchmarks.submitter URL AGENT N MESSAGE`.
"""

import asyncio
import itertools
import json
import sys

from benchmarks.load import post


def main() -> None:
    """Submit all tasks."""
    url, agent, count, message = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    tasks = ({"agent": agent, "input": {"message": f"{message} {number}"}} for number in range(count))
    bodies = (json.dumps(task).encode() for task in tasks)
    keys = sys.stdin.read().split()
    asyncio.run(post(f"{url}/v1/tasks", zip(itertools.cycle(keys), bodies, strict=False), connections=8))


if __name__ == "__main__":
    main()
