-- One row per transaction. The document stands last, so that a look at the other columns never reads it.
CREATE TABLE transactions (
    id          INTEGER PRIMARY KEY,
    gid         TEXT    NOT NULL UNIQUE,
    version     INTEGER NOT NULL,
    tag         INTEGER NOT NULL,
    phase       INTEGER NOT NULL CHECK (phase BETWEEN 0 AND 5),
    attention   INTEGER NOT NULL CHECK (attention IN (0, 1)),
    due_at      INTEGER,
    -- The destination it waits for, which takes no calls, and since when.
    parked      TEXT,
    since       INTEGER,
    created_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    digest      BLOB,
    -- NULL once purged.
    document    BLOB CHECK (length(document) > 0),
    -- Spelt out: for a list of three SQLite would build a table anew at every write.
    CONSTRAINT ended_by_phase CHECK ((ended_at IS NULL) = (phase = 0 OR phase = 1 OR phase = 3)),
    CONSTRAINT due_until_ended CHECK ((ended_at IS NULL) = (due_at IS NOT NULL)),
    CONSTRAINT parked_until_ended CHECK (parked IS NULL OR ended_at IS NULL),
    CONSTRAINT parked_since CHECK ((parked IS NULL) = (since IS NULL))
) STRICT;

-- What is unfinished. created_at is there so that the oldest is found without reading rows.
CREATE INDEX due ON transactions (due_at, created_at) WHERE due_at IS NOT NULL;
-- What waits at each destination.
CREATE INDEX parked ON transactions (parked, since) WHERE parked IS NOT NULL;
-- What can be purged, and what can be forgotten after that.
CREATE INDEX ended ON transactions (ended_at) WHERE ended_at IS NOT NULL AND document IS NOT NULL;
CREATE INDEX emptied ON transactions (ended_at) WHERE document IS NULL;
CREATE INDEX attention ON transactions (attention) WHERE attention = 1;

-- What was written lately, an entry for each commit, until it is moved into the table above: the rows as they were then,
-- in order. journal.rs says how they are written.
CREATE TABLE journal (
    at          INTEGER PRIMARY KEY,
    entry       BLOB    NOT NULL
) STRICT;

-- Who hears of what is published under a topic.
CREATE TABLE subscribers (
    topic       TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    deliver     TEXT    NOT NULL,
    PRIMARY KEY (topic, id)
) STRICT, WITHOUT ROWID;

-- How many rows are in each phase and call for a human: counting them would take the longer the more have ended.
-- And when anything was last written, by the log's own clock, which goes on from there.
CREATE TABLE counts (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    trying      INTEGER NOT NULL,
    confirming  INTEGER NOT NULL,
    confirmed   INTEGER NOT NULL,
    cancelling  INTEGER NOT NULL,
    cancelled   INTEGER NOT NULL,
    abandoned   INTEGER NOT NULL,
    attention   INTEGER NOT NULL,
    written_at  INTEGER NOT NULL
) STRICT;
INSERT INTO counts VALUES (1, 0, 0, 0, 0, 0, 0, 0, 0);
