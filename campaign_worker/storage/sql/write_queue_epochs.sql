INSERT INTO {schema}.queue_epochs (queue, epoch)
SELECT w.queue, w.epoch FROM unnest($1::text[], $2::text[]) AS w (queue, epoch) ORDER BY w.queue
ON CONFLICT (queue) DO UPDATE SET epoch = excluded.epoch
