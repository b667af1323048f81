"""Names and interfaces of TRL before 1.0."""
