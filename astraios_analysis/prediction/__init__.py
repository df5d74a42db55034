"""Values at sizes that nobody has measured, checked on sizes held out."""
