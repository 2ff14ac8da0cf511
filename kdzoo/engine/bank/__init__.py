"""The teacher bank: a frozen teacher's signals, computed once and read by every training that shares them."""
