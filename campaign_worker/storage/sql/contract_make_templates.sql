-- An id first, so that text and digest meet again; a replica that was quicker leaves one of two unused.
WITH given AS MATERIALIZED (
    SELECT w.digest, w.subject, w.html, w.text,
           nextval(pg_get_serial_sequence('{schema}.templates', 'id')) AS id
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS w (digest, subject, html, text)
    WHERE NOT EXISTS (SELECT FROM {schema}.contract_templates t WHERE t.digest = w.digest)
    ORDER BY w.digest
), made AS (
    INSERT INTO {schema}.templates (id, subject, html, text)
    SELECT id, subject, html, text FROM given
)
INSERT INTO {schema}.contract_templates (digest, template_id)
SELECT digest, id FROM given ORDER BY digest
ON CONFLICT DO NOTHING
