"""Submits tasks to the agent `bench` over HTTP, eight at a time: `python -m benchmarks.submitter URL N`."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx2


def main() -> None:
    """Submit them all."""
    url, count = sys.argv[1], int(sys.argv[2])
    headers = {"authorization": f"Bearer {os.environ['ROTA_API_KEY']}"}
    with (
        httpx2.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as http,
        ThreadPoolExecutor(8) as pool,
    ):

        def submit(number: int) -> None:
            body = {"agent": "bench", "input": {"message": f"When is spin? {number}"}}
            http.post("/v1/tasks", json=body).raise_for_status()

        list(pool.map(submit, range(count)))


if __name__ == "__main__":
    main()
