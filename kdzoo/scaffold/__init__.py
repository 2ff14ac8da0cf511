"""What ``kdzoo new`` writes: a distribution with a strategy or a dataset, made from the templates in this folder."""
