"""Long runs that try to break what must hold."""
