-- A track may have no artist, and an album neither: a source that names none states none. And servers learn which tracks
-- have other names than when a model was trained.

ALTER TABLE tracks ALTER COLUMN artist_id DROP NOT NULL;
ALTER TABLE albums ALTER COLUMN artist_id DROP NOT NULL;

-- What earlier versions wrote where a source stated nothing: "Unknown artist", and empty names.
UPDATE tracks t SET artist_id = NULL FROM artists a
    WHERE a.id = t.artist_id AND a.uri IS NULL AND lower(btrim(a.name)) IN ('', 'unknown artist');
UPDATE albums b SET artist_id = NULL FROM artists a
    WHERE a.id = b.artist_id AND a.uri IS NULL AND lower(btrim(a.name)) IN ('', 'unknown artist');
DELETE FROM artists WHERE uri IS NULL AND lower(btrim(name)) IN ('', 'unknown artist');
UPDATE tracks t SET album_id = NULL FROM albums b
    WHERE b.id = t.album_id AND b.uri IS NULL AND lower(btrim(b.name)) IN ('', 'unknown album');
DELETE FROM albums WHERE uri IS NULL AND lower(btrim(name)) IN ('', 'unknown album');
-- What has an id and no name is shown by its id.
UPDATE artists SET name = uri WHERE btrim(name) = '' AND uri IS NOT NULL;
UPDATE albums SET name = uri WHERE btrim(name) = '' AND uri IS NOT NULL;
UPDATE tracks SET name = uri WHERE btrim(name) = '';
UPDATE playlists SET title = NULL WHERE btrim(title) = '';

-- When a track that was there already got another title or artist, or its artist another name. A model that was trained
-- before then has an old name.
ALTER TABLE tracks ADD COLUMN renamed_at timestamptz;
CREATE INDEX tracks_renamed_at_idx ON tracks (renamed_at) WHERE renamed_at IS NOT NULL;

-- Servers listen on segue_names, and read which tracks have other names. Triggers of their own: what a track is searched by
-- is another matter.
CREATE FUNCTION tracks_renamed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.renamed_at := now();
    PERFORM pg_notify('segue_names', '');
    RETURN NEW;
END $$;
CREATE TRIGGER tracks_renamed BEFORE UPDATE OF name, artist_id ON tracks FOR EACH ROW
    WHEN (OLD.name <> NEW.name OR OLD.artist_id IS DISTINCT FROM NEW.artist_id) EXECUTE FUNCTION tracks_renamed();

CREATE FUNCTION artists_renamed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tracks SET renamed_at = now() WHERE artist_id = NEW.id;
    PERFORM pg_notify('segue_names', '');
    RETURN NULL;
END $$;
CREATE TRIGGER artists_renamed AFTER UPDATE OF name ON artists FOR EACH ROW
    WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION artists_renamed();

-- Imports switch off all triggers but these.
ALTER TABLE tracks ENABLE ALWAYS TRIGGER tracks_renamed;
ALTER TABLE artists ENABLE ALWAYS TRIGGER artists_renamed;

-- A track that was deleted and is added again may have another name.
CREATE OR REPLACE FUNCTION tracks_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH back AS (DELETE FROM removed_tracks r USING added a WHERE r.uri = a.uri RETURNING a.id)
    UPDATE tracks t SET renamed_at = now() FROM back WHERE t.id = back.id;
    IF FOUND THEN
        PERFORM pg_notify('segue_names', '');
        NOTIFY segue_withheld;
    ELSIF EXISTS (SELECT FROM added WHERE hidden) THEN
        NOTIFY segue_withheld;
    END IF;
    RETURN NULL;
END $$;
