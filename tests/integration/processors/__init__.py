"""The document and collection processors against servers of their own."""
