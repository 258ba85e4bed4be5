-- Search that forgives accents, punctuation and symbols, and lists what is popular first.

-- The text that a name is found by: compatibility forms of Unicode made equal (NFKD), lower case, no accents, `$` and `!`
-- in a word as the letters they stand for, words at most 400 characters long in total. A word with punctuation in it is
-- there in two forms, so that "AC/DC" is found by `acdc` and by `ac dc`. Emoji, and all characters of a name without
-- letters or digits ("!!!"), are spelled as their code points, since trigrams are made of letters and digits alone.
--
-- Immutable, for the index on playlists: nothing here depends on a setting.
CREATE FUNCTION segue_search_text(name text, is_query boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
DECLARE
    folded text := left(name, 400);
    joined text;
    spaced text;
    symbols text := '';
BEGIN
    IF folded ~ '^[A-Za-z0-9 ]+$' THEN
        RETURN lower(btrim(folded));
    END IF;
    folded := lower(normalize(folded, NFKD));
    -- The marks that a letter was taken apart into; letters that Unicode does not take apart.
    folded := regexp_replace(folded, '[\u0300-\u036f\u200b-\u200f\ufe00-\ufe0f]', '', 'g');
    folded := translate(folded, 'łøđðħıŧŋĸ', 'loddhitnk');
    folded := replace(replace(replace(replace(folded, 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th');
    IF folded ~ '[$!@]' THEN
        folded := regexp_replace(folded, '\$(?=[[:alpha:]])|(?<=[[:alpha:]])\$', 's', 'g');
        folded := regexp_replace(folded, '(?<=[[:alpha:]])!(?=[[:alpha:]])', 'i', 'g');
        folded := regexp_replace(folded, '(?<=[[:alpha:]])@(?=[[:alpha:]])', 'a', 'g');
    END IF;
    IF folded !~ '[[:alnum:]]' THEN
        symbols := regexp_replace(folded, '[\U0001f3fb-\U0001f3ff]', '', 'g'); -- skin tones
    ELSIF folded ~ '[\u2190-\u2bff\U0001f000-\U0001faff]' THEN
        symbols := regexp_replace(folded, '[^\u2190-\u2bff\U0001f000-\U0001f3fa\U0001f400-\U0001faff]', '', 'g');
    END IF;
    joined := regexp_replace(folded, '(?<=[[:alnum:]])[^[:alnum:][:space:]]+(?=[[:alnum:]])', '', 'g');
    spaced := regexp_replace(folded, '[^[:alnum:][:space:]]+', ' ', 'g');
    joined := regexp_replace(joined, '[^[:alnum:][:space:]]+', ' ', 'g');
    IF is_query OR joined = spaced THEN
        spaced := joined;
    ELSE
        spaced := spaced || ' ' || joined;
    END IF;
    IF symbols <> '' THEN
        spaced := spaced || ' ' || (SELECT string_agg('x' || to_hex(ascii(symbol)), '' ORDER BY place)
                                    FROM regexp_split_to_table(symbols, '') WITH ORDINALITY AS s (symbol, place)
                                    WHERE symbol !~ '\s');
    END IF;
    RETURN btrim(spaced);
END $$;

CREATE OR REPLACE FUNCTION tracks_set_search_text() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.search_text := concat_ws(' ', segue_search_text(NEW.name),
                                 segue_search_text((SELECT name FROM artists WHERE id = NEW.artist_id)));
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION artists_set_search_text() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tracks SET search_text = concat_ws(' ', segue_search_text(name), segue_search_text(NEW.name))
    WHERE artist_id = NEW.id;
    RETURN NULL;
END $$;

UPDATE tracks t SET search_text = concat_ws(' ', segue_search_text(t.name), segue_search_text(a.name))
FROM (SELECT t.id, a.name FROM tracks t LEFT JOIN artists a ON a.id = t.artist_id) a
WHERE a.id = t.id
  AND t.search_text <> concat_ws(' ', segue_search_text(t.name), segue_search_text(a.name));

DROP INDEX playlists_title_idx;
CREATE INDEX playlists_title_idx ON playlists USING gin (segue_search_text(title) gin_trgm_ops);

-- How many placements a track has, roughly: of equally good finds, the one with more comes first. Estimated from a sample,
-- after imports and now and then by servers, since counting all placements of a large catalog takes a minute.
CREATE TABLE track_popularity (
    track_id   integer PRIMARY KEY,
    placements integer NOT NULL
);
-- One row: when that was.
CREATE TABLE track_popularity_estimate (
    estimated_at timestamptz NOT NULL
);
INSERT INTO track_popularity_estimate VALUES ('-infinity');
