"""Events of visits for other programs, beside the faces."""
