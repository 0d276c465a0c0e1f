"""Submits tasks to the agent `bench` over HTTP, eight at a time: `python -m benchmarks.submitter URL N`."""

import asyncio
import json
import os
import sys

from benchmarks.load import post


def main() -> None:
    """Submit them all."""
    url, count = sys.argv[1], int(sys.argv[2])
    tasks = ({"agent": "bench", "input": {"message": f"When is spin? {number}"}} for number in range(count))
    bodies = (json.dumps(task).encode() for task in tasks)
    asyncio.run(post(f"{url}/v1/tasks", os.environ["ROTA_API_KEY"], bodies, connections=8))


if __name__ == "__main__":
    main()
