"""What a device uses to hand its frames to a server: spool, byte budget, HTTP with retries, without torch."""
