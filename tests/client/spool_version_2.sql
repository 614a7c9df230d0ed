-- The tables of spool version 2, as edge-stscq 0.1.0 made them before wire version 2.
CREATE TABLE faces (sequence INTEGER PRIMARY KEY, model BLOB NOT NULL, captured REAL NOT NULL) STRICT;
CREATE TABLE basics (sequence INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT;
CREATE TABLE further (sequence INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT;
CREATE TABLE leases (
        token INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, until REAL NOT NULL
    ) STRICT;
CREATE TABLE state (
    device TEXT NOT NULL,
    max_bytes INTEGER NOT NULL,
    next INTEGER NOT NULL DEFAULT 0,
    taken INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    thinned INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    damaged INTEGER NOT NULL DEFAULT 0,
    purged INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO state (device, max_bytes) VALUES ('cam', 67108864);
PRAGMA application_id=1397772108;
PRAGMA user_version=2;
