-- What a campaign wants tracked. It acts only where TRACKING_BASE_URL is set; without it a mail stays
-- as it is. Clicks are tracked on links of the HTML, with track_text on URLs of the text part as well.
-- Changing it changes mails that have not been sent; links of mails that are out go on to work.
ALTER TABLE {schema}.campaigns
    ADD COLUMN track_opens  boolean NOT NULL DEFAULT true,
    ADD COLUMN track_clicks boolean NOT NULL DEFAULT true,
    ADD COLUMN track_text   boolean NOT NULL DEFAULT false;
