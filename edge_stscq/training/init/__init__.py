"""Starting points of training in closed form: components, codebooks, regressions, pruned and grafted networks."""
