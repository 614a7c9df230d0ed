"""The HTTP and WebSocket routes, one module for each resource, and the JSON models that they answer with."""
