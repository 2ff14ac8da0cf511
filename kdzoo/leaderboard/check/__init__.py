"""Whether a published folder is what it says."""
