"""Speed, memory and size of encoders."""
