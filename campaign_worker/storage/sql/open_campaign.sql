-- Enqueueing a draft starts it; a completed campaign with new recipients runs again.
UPDATE {schema}.campaigns
SET status = CASE WHEN status IN ('draft', 'completed') THEN 'running' ELSE status END,
    completed_at = NULL
WHERE id = $1
RETURNING status, name
