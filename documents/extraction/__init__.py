"""Text out of a stranger's bytes, in a process that can do nothing but compute. Knows no tenant, no database, no key."""
