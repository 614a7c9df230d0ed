"""The front of the server: its connections, and what is refused before anything else is done for a request."""
