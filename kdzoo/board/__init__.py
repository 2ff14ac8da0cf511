"""The board: the table made from records, with its statistics. No torch here."""
