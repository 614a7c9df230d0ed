"""A sealed store: faces under a data key each, and the file of these keys, wrapped by a master key."""
