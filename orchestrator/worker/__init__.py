"""The worker: the claim, the heartbeat, the loop over trials, the local supervisor."""
