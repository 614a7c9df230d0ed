"""The server on Ray Serve: deployments, replicas and the rules of the proxy."""
