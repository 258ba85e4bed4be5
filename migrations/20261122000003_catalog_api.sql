-- What the catalog needs to be changed and searched a row at a time, by several servers at once.

-- Search by name that forgives misspellings. Comes with PostgreSQL; the owner of a database may create it.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- A hidden track stays where it is placed, and is not recommended.
ALTER TABLE tracks ADD COLUMN hidden boolean NOT NULL DEFAULT false;
CREATE INDEX tracks_hidden_idx ON tracks (uri) WHERE hidden;

-- What a track is searched by: its title and its artist in one text, so that a search may name both.
ALTER TABLE tracks ADD COLUMN search_text text NOT NULL DEFAULT '';
UPDATE tracks t SET search_text = left(t.name || ' ' || a.name, 400) FROM artists a WHERE a.id = t.artist_id;
CREATE INDEX tracks_search_text_idx ON tracks USING gin (search_text gin_trgm_ops);
CREATE INDEX playlists_title_idx ON playlists USING gin (title gin_trgm_ops);

CREATE FUNCTION tracks_set_search_text() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.search_text := left(concat_ws(' ', NEW.name, (SELECT name FROM artists WHERE id = NEW.artist_id)), 400);
    RETURN NEW;
END $$;
CREATE TRIGGER tracks_set_search_text BEFORE INSERT OR UPDATE OF name, artist_id ON tracks
    FOR EACH ROW EXECUTE FUNCTION tracks_set_search_text();

CREATE FUNCTION artists_set_search_text() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tracks SET search_text = left(name || ' ' || NEW.name, 400) WHERE artist_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER artists_set_search_text AFTER UPDATE OF name ON artists
    FOR EACH ROW WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION artists_set_search_text();

-- Counts the changes of a playlist and its placements, so that a client can say which state it means to change.
ALTER TABLE playlists ADD COLUMN version integer NOT NULL DEFAULT 1;
CREATE FUNCTION playlists_count_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$;
CREATE TRIGGER playlists_count_version BEFORE UPDATE ON playlists
    FOR EACH ROW EXECUTE FUNCTION playlists_count_version();

-- Tracks that were deleted. Models that were trained before still know them.
CREATE TABLE removed_tracks (
    uri        text PRIMARY KEY,
    removed_at timestamptz NOT NULL DEFAULT now()
);

-- Servers listen on segue_withheld, and read anew what must not be recommended. In the tables themselves, so that
-- whoever writes tells them.
CREATE FUNCTION tracks_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM removed_tracks r USING added a WHERE r.uri = a.uri;
    IF FOUND OR EXISTS (SELECT FROM added WHERE hidden) THEN
        NOTIFY segue_withheld;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tracks_added AFTER INSERT ON tracks REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION tracks_added();

CREATE FUNCTION tracks_hidden_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY segue_withheld;
    RETURN NULL;
END $$;
CREATE TRIGGER tracks_hidden_changed AFTER UPDATE OF hidden ON tracks
    FOR EACH ROW WHEN (OLD.hidden IS DISTINCT FROM NEW.hidden) EXECUTE FUNCTION tracks_hidden_changed();

CREATE FUNCTION tracks_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO removed_tracks (uri) VALUES (OLD.uri) ON CONFLICT (uri) DO UPDATE SET removed_at = now();
    NOTIFY segue_withheld;
    RETURN NULL;
END $$;
CREATE TRIGGER tracks_removed AFTER DELETE ON tracks FOR EACH ROW EXECUTE FUNCTION tracks_removed();

-- Imports switch off the checks of foreign keys, and with them all triggers but these.
ALTER TABLE tracks ENABLE ALWAYS TRIGGER tracks_set_search_text;
ALTER TABLE artists ENABLE ALWAYS TRIGGER artists_set_search_text;
ALTER TABLE playlists ENABLE ALWAYS TRIGGER playlists_count_version;
ALTER TABLE tracks ENABLE ALWAYS TRIGGER tracks_added;
ALTER TABLE tracks ENABLE ALWAYS TRIGGER tracks_hidden_changed;
ALTER TABLE tracks ENABLE ALWAYS TRIGGER tracks_removed;

-- Keys of the HTTP interface. The secret itself is not here, only its SHA-256: it has 256 random bits, so that nobody
-- finds it by trying.
CREATE TABLE api_keys (
    id         text PRIMARY KEY,
    name       text NOT NULL CONSTRAINT api_keys_name_key UNIQUE CHECK (name <> ''),
    scope      text NOT NULL CONSTRAINT api_keys_scope_check CHECK (scope IN ('read', 'write', 'admin')),
    hash       bytea NOT NULL CHECK (length(hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE FUNCTION api_keys_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY segue_api_keys;
    RETURN NULL;
END $$;
CREATE TRIGGER api_keys_changed AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_changed();
