-- What people think of tracks, and what they played: ratings and listens. And what a track is like, as its source says.

-- Names of genres, as the source states them; none for most tracks.
ALTER TABLE tracks ADD COLUMN genres text[] NOT NULL DEFAULT '{}';

-- One rating of a track by a user: the last one counts. The bounds keep out NaN and infinities; which scale an app rates
-- on is checked where ratings come in.
CREATE TABLE ratings (
    user_id    integer NOT NULL CONSTRAINT ratings_user_id_fkey REFERENCES users (id) ON DELETE CASCADE,
    track_id   integer NOT NULL CONSTRAINT ratings_track_id_fkey REFERENCES tracks (id),
    rating     real NOT NULL CONSTRAINT ratings_rating_check CHECK (rating BETWEEN -1000000 AND 1000000),
    -- when the user rated, as the source states it
    rated_at   timestamptz NOT NULL,
    -- when this row last changed here
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, track_id)
);
CREATE INDEX ratings_track_id_idx ON ratings (track_id);
CREATE INDEX ratings_updated_at_idx ON ratings (updated_at);

-- A user played a track at some time. Told twice, it is the same one. Where it was played from, and whether the user
-- came back to it, is known to some sources only.
CREATE TABLE listens (
    user_id            integer NOT NULL CONSTRAINT listens_user_id_fkey REFERENCES users (id) ON DELETE CASCADE,
    track_id           integer NOT NULL CONSTRAINT listens_track_id_fkey REFERENCES tracks (id),
    listened_at        timestamptz NOT NULL,
    source_system_tab  text,
    source_screen_name text,
    source_type        text,
    -- whether the user listened to it again within a month
    target             boolean,
    updated_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, track_id, listened_at)
);
CREATE INDEX listens_track_id_idx ON listens (track_id);
CREATE INDEX listens_updated_at_idx ON listens (updated_at);
