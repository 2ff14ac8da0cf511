"""What runs the cells of a bench: this process, a pool of processes, a Ray cluster."""
