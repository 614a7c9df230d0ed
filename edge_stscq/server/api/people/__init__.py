"""Routes of visits and persons, their events, and the JSON models that they answer with."""
