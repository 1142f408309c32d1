"""HTTP of the running service: the Unix socket now, the network later, the same application.

`place` is loaded at once, `application` and `server` beside a start: they are a quarter of what it loads.
"""
