"""Records from what other tools leave behind; what a file does not say is asked for, never guessed."""
