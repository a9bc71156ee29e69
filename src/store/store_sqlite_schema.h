/*
 * The tables of the SQLite store. Format n is what migrations 0..n-1 make; PRAGMA user_version says which one a file has. A migration that
 * was released is never changed: a new one is added behind it.
 *
 *   state     one row: the revision
 *   entities  the canonical JSON; seq is the order of creation; sum guards against bits that flip on the disk
 *   refs      what an entity refers to; checked when the transaction ends
 *   uniques   values that only one entity of a collection may have, its field or cache key beside them
 *   tags      of entities, for lists by tag
 *   gone      what was deleted lately: revisions after state.gone_since are all there (a trigger writes it)
 *   modules   versions of filter modules; blobs: their bytes, once per content; module_names: the last number given
 */
#ifndef ST_STORE_SQLITE_SCHEMA_H
#define ST_STORE_SQLITE_SCHEMA_H

/* In the header of the file: tells our databases from others. "Slce" */
#define ST_SQLITE_APPLICATION_ID 0x536c6365

static const char *const st_sqlite_migrations[] = {
    "CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL);"
    "INSERT INTO state VALUES (1, 0);"
    "CREATE TABLE entities (seq INTEGER PRIMARY KEY, collection TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL,"
    " sum BLOB NOT NULL, json TEXT NOT NULL, UNIQUE (collection, id));"
    "CREATE TABLE refs (seq INTEGER NOT NULL REFERENCES entities ON DELETE CASCADE, field TEXT NOT NULL,"
    " parent_collection TEXT NOT NULL, parent_id TEXT NOT NULL, cascades INTEGER NOT NULL, PRIMARY KEY (seq, field),"
    " FOREIGN KEY (parent_collection, parent_id) REFERENCES entities (collection, id) DEFERRABLE INITIALLY DEFERRED) WITHOUT ROWID;"
    "CREATE INDEX refs_by_parent ON refs (parent_collection, parent_id);"
    "CREATE TABLE uniques (collection TEXT NOT NULL, field TEXT NOT NULL, value TEXT NOT NULL,"
    " seq INTEGER NOT NULL REFERENCES entities ON DELETE CASCADE, PRIMARY KEY (collection, field, value)) WITHOUT ROWID;"
    "CREATE INDEX uniques_by_entity ON uniques (seq);"
    "CREATE TABLE module_names (name TEXT PRIMARY KEY, last_version INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE blobs (sha256 TEXT PRIMARY KEY, bytes BLOB NOT NULL);"
    "CREATE TABLE modules (name TEXT NOT NULL REFERENCES module_names, version INTEGER NOT NULL,"
    " sha256 TEXT NOT NULL REFERENCES blobs, size INTEGER NOT NULL, created_at INTEGER NOT NULL, active INTEGER NOT NULL,"
    " meta TEXT, PRIMARY KEY (name, version)) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX modules_active ON modules (name) WHERE active;"
    "CREATE INDEX modules_by_content ON modules (sha256);",
    "CREATE INDEX entities_by_revision ON entities (revision);"
    "ALTER TABLE state ADD COLUMN gone_since INTEGER NOT NULL DEFAULT 0;"
    "UPDATE state SET gone_since = revision;"
    "CREATE TABLE gone (revision INTEGER NOT NULL, collection TEXT NOT NULL, id TEXT NOT NULL);"
    "CREATE INDEX gone_by_revision ON gone (revision);"
    "CREATE TRIGGER entity_gone AFTER DELETE ON entities BEGIN"
    " INSERT INTO gone SELECT revision + 1, OLD.collection, OLD.id FROM state; END;"
    "ALTER TABLE refs ADD COLUMN collection TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE refs ADD COLUMN id TEXT NOT NULL DEFAULT '';"
    "UPDATE refs SET (collection, id) = (SELECT e.collection, e.id FROM entities e WHERE e.seq = refs.seq);"
    "CREATE INDEX refs_children ON refs (parent_collection, parent_id, field, collection, id);"
    "DROP INDEX refs_by_parent;"
    "CREATE TABLE tags (collection TEXT NOT NULL, tag TEXT NOT NULL, id TEXT NOT NULL,"
    " seq INTEGER NOT NULL REFERENCES entities ON DELETE CASCADE, PRIMARY KEY (collection, tag, id)) WITHOUT ROWID;"
    "CREATE INDEX tags_by_entity ON tags (seq);"
    "INSERT OR IGNORE INTO tags SELECT e.collection, t.value, e.id, e.seq FROM entities e, json_each(e.json, '$.tags') t"
    " WHERE t.type = 'text';",
};

#define ST_SQLITE_FORMAT ((int)(sizeof(st_sqlite_migrations) / sizeof(st_sqlite_migrations[0])))

#endif
