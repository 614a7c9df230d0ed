"""The decode service: checks, stores and acknowledges frames, and turns stored tokens back into faces.

A request travels `app -> ingest -> store` when a device sends, and `app -> store -> batching -> decode_service` when
somebody looks at a face. Importing this package imports none of it, so `edge-stscq decode` runs without FastAPI.
"""
