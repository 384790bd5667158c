SELECT digest, template_id FROM {schema}.contract_templates WHERE digest = ANY ($1::text[])
