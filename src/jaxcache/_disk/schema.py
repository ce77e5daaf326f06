"""The tables of the index."""

VERSION = 1

SCHEMA = """
CREATE TABLE state (
  number INTEGER NOT NULL, clock REAL NOT NULL, eviction TEXT NOT NULL, limit_bytes INTEGER, max_entries INTEGER,
  since REAL NOT NULL, reconciled REAL NOT NULL
);
CREATE TABLE entries (
  fingerprint TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, size_bytes INTEGER NOT NULL,
  compile_seconds REAL NOT NULL, frequency INTEGER NOT NULL, priority REAL NOT NULL, number INTEGER NOT NULL,
  created REAL NOT NULL, used REAL NOT NULL, pending TEXT, PRIMARY KEY (fingerprint, name)
) WITHOUT ROWID;
CREATE INDEX by_priority ON entries (priority, number) WHERE pending IS NULL;
CREATE INDEX by_name ON entries (name);
CREATE INDEX by_pending ON entries (pending) WHERE pending IS NOT NULL;
CREATE TABLE totals (entries INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
CREATE TRIGGER added AFTER INSERT ON entries BEGIN
  UPDATE totals SET entries = entries + 1, bytes = bytes + new.size_bytes; END;
CREATE TRIGGER removed AFTER DELETE ON entries BEGIN
  UPDATE totals SET entries = entries - 1, bytes = bytes - old.size_bytes; END;
CREATE TRIGGER resized AFTER UPDATE OF size_bytes ON entries BEGIN
  UPDATE totals SET bytes = bytes + new.size_bytes - old.size_bytes; END;
CREATE TABLE past (
  fingerprint TEXT NOT NULL, name TEXT NOT NULL, frequency INTEGER NOT NULL, reason TEXT NOT NULL,
  number INTEGER NOT NULL, PRIMARY KEY (fingerprint, name)
) WITHOUT ROWID;
CREATE INDEX past_by_number ON past (number);
CREATE TABLE counters (
  fingerprint TEXT NOT NULL, counter TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (fingerprint, counter)
) WITHOUT ROWID;
CREATE TABLE runs (
  run INTEGER PRIMARY KEY, started REAL NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, program TEXT NOT NULL,
  fingerprint TEXT NOT NULL, settings TEXT NOT NULL
);
CREATE TABLE requests (
  run INTEGER NOT NULL, key TEXT NOT NULL, outcome TEXT NOT NULL, parts TEXT NOT NULL, PRIMARY KEY (run, key)
) WITHOUT ROWID;
"""
