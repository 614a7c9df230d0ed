"""Many cameras in one process: each is read by a thread of its own, all share one detector and one encoder.

    reader a camera -> newest picture -> worker, in turn -> keeper a spool -> spool -> delivery a spool -> server
                                           `-> track events -> MQTT, webhooks

Needs `pip install 'edge-stscq[camera]'`; `docs/cameras.md` says how it is used.
"""
