"""Human labels: a journal of judgements, their agreement, and a local page that collects them. No torch here."""
