"""Ratios, measured side by side in one run on real parts: ours against a limit or a peer, with the raw figures beside."""
