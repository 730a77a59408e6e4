-- What a run used, and how often its execution was begun anew.

ALTER TABLE jobs
    ADD COLUMN restarts bigint NOT NULL DEFAULT 0,
    ADD COLUMN resources json; -- of the current run, told at its end
