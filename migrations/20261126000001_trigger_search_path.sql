-- Triggers find the catalog's tables whatever search path a connection has, so that an administrator may change rows with
-- psql. Costs about 3 µs a call. `CREATE OR REPLACE FUNCTION` forgets this: a later migration has to say it again.

ALTER FUNCTION tracks_set_search_text() SET search_path FROM CURRENT;
ALTER FUNCTION artists_set_search_text() SET search_path FROM CURRENT;
ALTER FUNCTION artists_renamed() SET search_path FROM CURRENT;
ALTER FUNCTION tracks_added() SET search_path FROM CURRENT;
ALTER FUNCTION tracks_removed() SET search_path FROM CURRENT;
