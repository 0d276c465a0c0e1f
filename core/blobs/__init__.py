"""Blobs: bytes under a key, in a folder or in S3-compatible storage, and signed addresses at which they are read."""
