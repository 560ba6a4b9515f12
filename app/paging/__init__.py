"""From alerts to people: Alertmanager, incidents, evidence."""
