"""What only this service decides, pure: what a run needs next, and what a look at a scheduler is worth telling."""
