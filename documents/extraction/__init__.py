"""Text and pictures out of a stranger's bytes, in a process that can only compute. Knows no tenant, database or key."""
