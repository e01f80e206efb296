"""One operator per module: a form, its progress and its summary; the work is in `api` and `datasets`."""
