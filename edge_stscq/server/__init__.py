"""The decode server: checks, stores and acknowledges frames, and turns stored tokens back into faces.

A request travels `api -> ingest -> storage` when a device sends, and `api -> storage -> decoding` when somebody looks
at a face. `app` puts the parts together. Importing this package imports none of it.
"""
