"""The fault suite: real processes, real servers, and everything that can go wrong with them, again and again.

`python -m tests.acceptance.faults --seconds 600 --seed 7` (or `make faults`) runs it long; `test_faults.py` runs it
short.
"""
