-- The tables of spool version 1, as edge-stscq 0.1.0 made them.
CREATE TABLE faces (
    sequence INTEGER PRIMARY KEY,
    model BLOB NOT NULL,
    captured REAL NOT NULL,
    first BLOB,
    rest BLOB,
    lease INTEGER NOT NULL DEFAULT 0,
    until REAL NOT NULL DEFAULT 0,
    CHECK (first IS NOT NULL OR rest IS NOT NULL)
) STRICT;
CREATE INDEX first_waits ON faces (sequence) WHERE first IS NOT NULL;
CREATE INDEX rest_waits ON faces (sequence) WHERE rest IS NOT NULL;
CREATE TABLE state (
    device TEXT NOT NULL,
    max_bytes INTEGER NOT NULL,
    next INTEGER NOT NULL DEFAULT 0,
    used INTEGER NOT NULL DEFAULT 0,
    taken INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    thinned INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    damaged INTEGER NOT NULL DEFAULT 0,
    purged INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TRIGGER come AFTER INSERT ON faces BEGIN UPDATE state SET used = used + 160 + ifnull(length(new.first), 0) + ifnull(length(new.rest), 0); END;
CREATE TRIGGER go AFTER DELETE ON faces BEGIN UPDATE state SET used = used - (160 + ifnull(length(old.first), 0) + ifnull(length(old.rest), 0)); END;
CREATE TRIGGER shrink AFTER UPDATE OF first, rest ON faces
    BEGIN UPDATE state SET used = used + 160 + ifnull(length(new.first), 0) + ifnull(length(new.rest), 0) - (160 + ifnull(length(old.first), 0) + ifnull(length(old.rest), 0)); END;
INSERT INTO state (device, max_bytes) VALUES ('cam', 67108864);
PRAGMA application_id=1397772108;
PRAGMA user_version=1;
