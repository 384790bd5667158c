SELECT queue, epoch FROM {schema}.queue_epochs WHERE queue = ANY ($1::text[])
