"""Routes, a file per concept."""
