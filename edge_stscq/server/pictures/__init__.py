"""Pictures that clients upload, coded by a bundle's encoder in a confined process of its own."""
