"""Client of a server, without torch: spool, byte budget, HTTP with retries."""
