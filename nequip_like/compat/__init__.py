"""Translators for files and configs of other packages; nothing inside the library depends on them."""
