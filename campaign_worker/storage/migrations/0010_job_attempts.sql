-- What the job that claimed the row last had counted then. A job that comes with another number has ended
-- since: of one that had failed for good, somebody wants another try.
ALTER TABLE {schema}.messages ADD COLUMN job_attempts bigint;
