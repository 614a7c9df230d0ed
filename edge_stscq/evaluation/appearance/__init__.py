"""How decoded faces look to people: metrics by networks that no loss of the training saw."""
