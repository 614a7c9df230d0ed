"""Small models of random weights, and the released one as this machine makes it."""
