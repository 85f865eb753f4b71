"""The reference app of flowaudit.ops: documents in, summaries and neighbours out."""
