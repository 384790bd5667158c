UPDATE {schema}.messages m
SET state = 'sending', token = w.token, queue = w.queue, job_id = w.job_id,
    job_attempts = w.job_attempts, job_timestamp = w.job_timestamp,
    template_id = w.template_id, claimed_at = clock_timestamp(),
    lease_until = clock_timestamp() + make_interval(secs => $6::float8),
    reason = NULL, detail = NULL
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $7::bigint[],
            $8::bigint[])
     AS w (id, token, queue, job_id, template_id, job_attempts, job_timestamp)
WHERE m.id = w.id AND (m.state = 'scheduled' OR (m.state = 'sending' AND m.token = w.token))
RETURNING m.id
