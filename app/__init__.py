"""qethics: the streaming observability processor for quantum ethics."""
