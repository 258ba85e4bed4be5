-- Search that takes milliseconds at two million tracks: by whole words first, among the popular tracks first.

-- The words of a search text. Immutable, for indexes. A text of more than 500 characters is cut, since a word may have 2,046
-- bytes at most.
CREATE FUNCTION segue_words(search_text text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN array_to_tsvector(array_remove(string_to_array(
    CASE WHEN octet_length(search_text) < 2000 THEN search_text ELSE left(search_text, 500) END, ' '), ''));

CREATE INDEX tracks_words_idx ON tracks USING gin (segue_words(search_text));
CREATE INDEX playlists_title_words_idx ON playlists USING gin (segue_words(segue_search_text(title)));

-- The tracks with the most placements, with what they are searched by: a common word occurs in tens of thousands of names of a
-- large catalog, but those that are listed first are all here. Estimated from a sample, after imports and now and then by
-- servers, since counting all placements of a large catalog takes a minute.
CREATE TABLE popular_tracks (
    track_id    integer PRIMARY KEY,
    placements  integer NOT NULL,
    search_text text NOT NULL,
    words       tsvector NOT NULL GENERATED ALWAYS AS (segue_words(search_text)) STORED
) WITH (fillfactor = 70); -- room for new numbers of placements, so that they leave the indexes alone
CREATE INDEX popular_tracks_search_text_idx ON popular_tracks USING gin (search_text gin_trgm_ops);
CREATE INDEX popular_tracks_words_idx ON popular_tracks USING gin (words);

-- One row: when they were estimated, and whether they are all tracks that there were then. If so, searches do without them.
CREATE TABLE popular_tracks_estimate (
    estimated_at timestamptz NOT NULL,
    is_all       boolean NOT NULL
);
INSERT INTO popular_tracks_estimate VALUES ('-infinity', true);
DROP TABLE track_popularity, track_popularity_estimate;

CREATE FUNCTION popular_tracks_follow() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM popular_tracks WHERE track_id = OLD.id;
    ELSE
        UPDATE popular_tracks SET search_text = NEW.search_text WHERE track_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER popular_tracks_deleted AFTER DELETE ON tracks FOR EACH ROW EXECUTE FUNCTION popular_tracks_follow();
CREATE TRIGGER popular_tracks_renamed AFTER UPDATE ON tracks FOR EACH ROW
    WHEN (OLD.search_text IS DISTINCT FROM NEW.search_text) EXECUTE FUNCTION popular_tracks_follow();

-- Imports switch off all triggers but these.
ALTER TABLE tracks ENABLE ALWAYS TRIGGER popular_tracks_deleted;
ALTER TABLE tracks ENABLE ALWAYS TRIGGER popular_tracks_renamed;
