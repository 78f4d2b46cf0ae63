"""What every store of the installation holds: encrypted, derived, disguised or clear. A catalogue, and a test of it.

`columns` and `stores` say it, `auditing` plants words and looks for them everywhere, `views` shows both to the members.
"""
