"""Whether pictures obey their graphs: arms, judges, metrics, the report."""
