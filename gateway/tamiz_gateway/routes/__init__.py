"""The routes of the gateway: those of the published contract, those of its own, and those of operations."""
