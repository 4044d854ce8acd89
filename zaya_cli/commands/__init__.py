"""One file a command, and one for each part of a large one."""
