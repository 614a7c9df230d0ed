"""One file a layout, oldest first."""
