"""Care of a store: checked, repaired, copied, and emptied of what is to go."""
