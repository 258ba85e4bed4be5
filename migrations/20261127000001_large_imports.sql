-- What lets large imports cost what they write.

-- Counts the statements that changed or deleted artists, albums or tracks, whoever ran them: an import remembers the tracks
-- that it wrote, and has to look them up again once others change them. A sequence, since it is counted without locks.
CREATE SEQUENCE names_changes;
CREATE FUNCTION names_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM nextval('names_changes');
    RETURN NULL;
END $$;
CREATE TRIGGER artists_changed AFTER UPDATE OR DELETE OR TRUNCATE ON artists
    FOR EACH STATEMENT EXECUTE FUNCTION names_changed();
CREATE TRIGGER albums_changed AFTER UPDATE OR DELETE OR TRUNCATE ON albums
    FOR EACH STATEMENT EXECUTE FUNCTION names_changed();
CREATE TRIGGER tracks_changed AFTER UPDATE OR DELETE OR TRUNCATE ON tracks
    FOR EACH STATEMENT EXECUTE FUNCTION names_changed();

-- Imports switch off all triggers but these.
ALTER TABLE artists ENABLE ALWAYS TRIGGER artists_changed;
ALTER TABLE albums ENABLE ALWAYS TRIGGER albums_changed;
ALTER TABLE tracks ENABLE ALWAYS TRIGGER tracks_changed;

-- Indexes that a first import dropped. It builds them at its end, or else the next import, server or migration.
CREATE TABLE deferred_indexes (
    name       text PRIMARY KEY,
    definition text NOT NULL
);
