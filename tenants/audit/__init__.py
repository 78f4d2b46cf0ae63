"""What was done in a workspace and by whom: a log that is only added to, each entry bound to all before it."""
