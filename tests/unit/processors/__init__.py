"""The built-in processors for documents, without servers."""
