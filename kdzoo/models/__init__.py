"""Any timm model, as teacher or student: names, taps, stages that face each other, sizes, weights."""
