"""From records to figures, each with a table of what it draws and a sentence that answers its question."""
