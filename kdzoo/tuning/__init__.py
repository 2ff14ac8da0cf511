"""Studies of tuning, shown: text, charts, importance. No torch here."""
