"""What a device uses to hand its frames to a server: HTTP, retries and counters, without torch."""
