"""Every known rival on the same broken networks: one process a defence, one JSON record each, one leaderboard."""
