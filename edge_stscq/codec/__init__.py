"""The codec: encoder, regional pooling, switched codebooks, router and decoder."""
