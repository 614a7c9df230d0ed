"""The matcher: a process of its own that holds the keys of protected templates, and matches them.

The server keeps templates and no key, the matcher keys and no template that the server does not have. Neither has a
face by itself; whoever has both does.
"""
