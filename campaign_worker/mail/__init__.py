"""Everything that makes a mail and carries it out: addresses, templates, MIME, SMTP."""
