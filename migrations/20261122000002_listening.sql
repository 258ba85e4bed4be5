-- What is known of users and tracks beside their names, for models of who plays what again. Null or empty where no
-- source says it.
ALTER TABLE users
    ADD COLUMN city           text,
    ADD COLUMN age            smallint CONSTRAINT users_age_check CHECK (age BETWEEN 1 AND 150),
    ADD COLUMN gender         text,
    ADD COLUMN registered_via text,
    ADD COLUMN registered_on  date,
    ADD COLUMN expires_on     date;

ALTER TABLE tracks
    ADD COLUMN language  text,
    ADD COLUMN composers text[] NOT NULL DEFAULT '{}',
    ADD COLUMN lyricists text[] NOT NULL DEFAULT '{}',
    -- International Standard Recording Code: country, registrant, year, number
    ADD COLUMN isrc      text;

-- When a listen first came in: one that changed since a training is not new to the model for that.
ALTER TABLE listens ADD COLUMN added_at timestamptz NOT NULL DEFAULT now();
