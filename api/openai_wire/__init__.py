"""OpenAI's wire: its requests as tasks, what happens in a task as its chunks and events, our problems as its errors.

Source of the shapes: the types of the official `openai` package for Python.
"""
