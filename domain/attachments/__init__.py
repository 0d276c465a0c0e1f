"""Attachments: files that users send with messages. Rows here, bytes in the blob store."""

TABLES = ("attachments", "blob_removals")
