"""Events for other programs: MQTT and signed webhooks, by which a camera tells of tracks and a server of visits."""
