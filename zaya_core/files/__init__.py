"""Files on disk: read up to a limit, written whole or not at all, held by one process at a time."""
