-- When the job was added that claimed the row last, or made it, by the job's own word. BullMQ's numbers begin
-- at 1 again in an emptied queue: a job of this id with another time is somebody else's.
ALTER TABLE {schema}.messages ADD COLUMN job_timestamp bigint;
