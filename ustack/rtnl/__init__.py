"""rtnetlink: what an administrator asks of a stack, and how it answers (Linux net/core/rtnetlink.c)."""
