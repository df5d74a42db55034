"""Tables of one's own: rows predicted from other rows, back-tested the same way, and which to measure next."""
