WITH given AS MATERIALIZED (
    SELECT w.key, w.template_id,
           nextval(pg_get_serial_sequence('{schema}.campaigns', 'id')) AS id
    FROM unnest($1::text[], $2::bigint[]) AS w (key, template_id)
    WHERE NOT EXISTS (SELECT FROM {schema}.contract_campaigns k WHERE k.key = w.key)
    ORDER BY w.key
), made AS (
    INSERT INTO {schema}.campaigns (id, name, template_id) SELECT id, key, template_id FROM given
)
INSERT INTO {schema}.contract_campaigns (key, campaign_id) SELECT key, id FROM given ORDER BY key
RETURNING key, campaign_id
